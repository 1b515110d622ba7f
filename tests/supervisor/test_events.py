"""What happened to a fleet is kept and shown; what it logs can be followed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from supervised import Site
from support import eventually

from brokerrun.supervisor.control import ask
from brokerrun.supervisor.journal import Journal

HANDLERS = """
    def q(job):
        note("begun", job.body)
        globals()[job.body]()

    def fine():
        pass

    def leaves():
        os._exit(7)

    def hangs():
        time.sleep(60)
"""


def events(site: Site, *arguments: str) -> list[Any]:
    done = site.run("events", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def kinds(site: Site) -> list[str]:
    return [event["event"] for event in events(site)]


def test_deaths_timeouts_and_crash_loops_are_kept_with_their_reasons(site: Site) -> None:
    site.handlers(HANDLERS)
    keys = {"timeout": "300ms", "max_attempts": 1, "prefetch": 1}
    site.configure(
        instance={"crash_limit": "1/30s", "log_level": "error", "crash_backoff": "50ms..100ms"},
        q=keys,
    )
    site.start()
    hung, left = site.write("q", "hangs", "leaves")
    site.empty("q", 10)
    site.write("q", "leaves", "fine", "leaves", "fine")
    site.empty("q", 10)
    eventually(lambda: kinds(site).count("worker_died") >= 4)
    pid = site.supervisor.pid
    assert site.stop() == 0
    found = events(site)
    said = [event["event"] for event in found]
    assert said[0] == "supervisor_started"
    assert said[-1] == "supervisor_stopped"
    assert {"worker_ready", "supervisor_stopping", "crash_loop_began"} <= set(said)
    deaths = {event["id"]: event for event in found if event["event"] == "worker_died"}
    assert len({event["event_id"] for event in found}) == len(found)
    assert deaths[str(hung)]["reason"] == "over its timeout of 0.3s"
    assert "in hangs\n" in deaths[str(hung)]["stack"]
    assert deaths[str(left)]["reason"] == "worker left with exit status 7"
    assert "stack" not in deaths[str(left)]
    assert (found[0]["pid"], found[0]["instance"], found[0]["host"]) == (
        pid,
        "default",
        socket.gethostname(),
    )
    assert [event["at"] for event in found] == sorted(event["at"] for event in found)
    shown = site.run("events").stdout
    assert "event=worker_died instance=default worker=q.1" in shown
    assert '      File "' in shown
    assert "worker_died" not in site.log()  # the level of the log says nothing of what is kept
    assert len(events(site, "-n", "2")) == 2


def test_events_are_followed_over_a_restart(site: Site) -> None:
    site.handlers(HANDLERS)
    site.configure(q={})
    site.start()
    eventually(lambda: kinds(site)[-1:] == ["worker_ready"])
    with following(site, "events", "-f", "--json", "-n", "1") as lines:
        next_line(lines)  # it looks
        os.kill(site.pids()[0], signal.SIGKILL)
        assert json.loads(next_line(lines))["event"] == "worker_died"
        assert json.loads(next_line(lines))["event"] == "worker_ready"
        assert site.stop() == 0
        site.start()
        said = [json.loads(next_line(lines))["event"] for _ in range(4)]
    assert said == [
        "supervisor_stopping",
        "supervisor_stopped",
        "supervisor_started",
        "worker_ready",
    ]


def test_events_of_no_database_are_refused(site: Site) -> None:
    site.configure(q={})
    done = site.run("events")
    assert done.returncode == 69
    assert "no database there" in done.stderr


def test_logs_are_shown_as_they_were_written_and_followed_to_the_end(site: Site) -> None:
    site.handlers(HANDLERS)
    site.configure(q={})
    site.start()
    written = [line for line in site.log().splitlines() if "supervisor_started" in line]
    shown = site.run("logs")
    assert (shown.returncode, shown.stdout.splitlines()) == (0, written)
    assert site.run("logs", "-n", "0").stdout == ""
    with following(site, "logs", "-f") as lines:
        assert next_line(lines).rstrip("\n") == written[0]
        os.kill(site.pids()[0], signal.SIGKILL)
        assert "event=worker_died worker=q.1" in next_line(lines)
        assert site.stop() == 0
        assert "event=supervisor_stopping" in next_line(lines)
        assert lines.wait(5) == 0
    assert site.run("logs").returncode == 3


def test_who_follows_and_does_not_read_is_let_go(site: Site) -> None:
    site.handlers(HANDLERS)
    site.configure(instance={"crash_limit": "1000/1s"}, q={})
    site.start()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.settimeout(5)
        deaf.connect(socket_of(site))
        deaf.sendall(b'{"do": "logs", "lines": 1000, "follow": true}\n' * 1_300)
        for _ in range(12):  # each line goes out 1,300 times
            pid = eventually(site.pids)[0]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: site.pids() not in ([], [pid]), 10)  # noqa: B023
        with suppress(ConnectionResetError):
            while deaf.recv(1 << 20):
                pass
    assert site.status()["state"] == "up"
    assert site.stop() == 0


def test_what_a_journal_holds_is_bounded() -> None:
    class Mute:
        def info(self, event: str, **facts: Any) -> None:
            assert "stack" not in facts

    journal = Journal(Mute(), "name")
    for number in range(3_000):
        journal.info("thing_happened", number=number, nothing=None, stack="x" * 50_000)
    kept = journal.take()
    assert len(kept) == 1_000
    assert set(json.loads(kept[0].facts)) == {"number", "stack"}
    assert len(kept[0].facts) < 25_000
    assert journal.take() == []


def socket_of(site: Site) -> str:
    (path,) = Path(site.folder / "run").iterdir()
    assert ask(str(path), {"do": "ps"}, 5)
    return str(path)


class following:
    """Run a command that goes on, and end it."""

    def __init__(self, site: Site, *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "brokerrun", *arguments, "-c", site.config],
            stdout=subprocess.PIPE,
            text=True,
            cwd=site.folder,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()
