"""The control socket under many clients, strangers and idlers; status of those that do not answer;
several instances of one database."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from supervised import Site, open_files
from support import eventually

from brokerrun.supervisor.control import ask

HANDLERS = """
    def q(job):
        note("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
        note("done", job.body)
"""


def up(site: Site, **keys: Any) -> str:
    """Start a fleet, and name its socket."""
    site.handlers(HANDLERS)
    site.configure(q=keys)
    site.start()
    (path,) = (site.folder / "run").iterdir()
    return str(path)


def status_seconds(path: str) -> float:
    begun = time.monotonic()
    assert ask(path, {"do": "status"}, 5)["state"] == "up"
    return time.monotonic() - begun


# ---------------------------------------------------------------------------------- many at once


def test_fifty_clients_at_once_are_all_answered(site: Site) -> None:
    path = up(site, processes=2)
    with ThreadPoolExecutor(50) as pool:
        taken = sorted(pool.map(status_seconds, [path] * 500))
    assert taken[-1] < 2
    # One after the other: what 50 threads of one Python wait for each other is not the answer's.
    alone = sorted(status_seconds(path) for _ in range(100))
    assert alone[-2] < 0.1  # the second worst: the machine has other work


def test_idle_clients_make_way_for_those_that_ask(site: Site) -> None:
    path = up(site)
    idle = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    try:
        for connection in idle:
            connection.connect(path)
        assert status_seconds(path) < 1
        files = open_files(site.supervisor.pid)
        assert sum(file.startswith("socket:") for file in files) < 140
        followed = socket.socket(socket.AF_UNIX)
        followed.settimeout(5)
        followed.connect(path)
        followed.sendall(b'{"do": "logs", "lines": 0, "follow": true}\n')
        assert json.loads(followed.recv(1000)) == {"lines": [], "more": True}
        more = [socket.socket(socket.AF_UNIX) for _ in range(200)]
        for connection in more:
            connection.connect(path)
        os.kill(site.pids()[0], signal.SIGKILL)
        assert b"worker_died" in followed.recv(1000)  # who waits for an answer is not idle
        for connection in [followed, *more]:
            connection.close()
    finally:
        for connection in idle:
            connection.close()


STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(5)
    try:
        connection.connect(sys.argv[1])
        connection.sendall(b'{"do": "ps"}\\n')
        print(len(connection.recv(100)))
    except OSError as error:
        print(type(error).__name__)
"""
REFUSED, GONE = "PermissionError", ["0", "BrokenPipeError", "ConnectionResetError"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@pytest.mark.parametrize(("mode", "said"), [(0o600, [REFUSED]), (0o602, GONE)])
def test_another_user_is_not_heard(site: Site, mode: int, said: list[str]) -> None:
    path = up(site)
    folder = Path(tempfile.mkdtemp(prefix="brokerrun-"))  # a path that strangers may walk
    folder.chmod(0o755)
    other = folder / "s"
    try:
        os.link(path, other)
        os.chmod(other, mode)
        done = subprocess.run(
            [shutil.which("python3") or sys.executable, "-c", STRANGER, str(other)],
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() in said
    finally:
        shutil.rmtree(folder)
    assert site.status()["state"] == "up"


# -------------------------------------------------------------------------- who does not answer


def held_and_killed(site: Site) -> None:
    up(site, processes=2)
    site.write("q", "wait-a", "wait-b")
    site.noted("begun wait-a")
    site.noted("begun wait-b")
    site.supervisor.kill()
    site.supervisor.wait()


def test_status_of_one_that_was_killed_tells_what_is_held(site: Site) -> None:
    held_and_killed(site)
    done = site.run("status", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["state"], found["held"]) == (3, "down", 2)
    assert found["queues"][0]["running"] == 2
    assert "2 held by processes that are gone" in site.run("status").stdout
    site.release("wait-a")
    site.release("wait-b")
    site.start()
    site.empty("q")
    assert site.status()["held"] == 0


def test_status_of_one_that_hangs_is_told_soon(site: Site) -> None:
    """Its row says that it lives; that it is stopped, or its loop stands, is seen from outside."""
    up(site)
    site.halt(site.supervisor.pid)
    begun = time.monotonic()
    assert site.run("status").returncode == 4
    assert time.monotonic() - begun < 1.5  # Python starts in that, too; the answer took 2 s before
    site.supervisor.send_signal(signal.SIGCONT)
    eventually(lambda: site.run("status").returncode == 0)


@pytest.mark.slow
def test_status_of_those_that_do_not_answer_in_time(site: Site) -> None:
    """Beside a bare Python, whose start is the machine's."""
    bare = min(timed([sys.executable, "-c", "pass"]) for _ in range(10))
    command = [sys.executable, "-m", "brokerrun", "status", "-c", site.config]
    up(site)
    alive = min(timed(command) for _ in range(10))
    site.halt(site.supervisor.pid)
    hung = min(timed(command) for _ in range(10))
    site.supervisor.send_signal(signal.SIGCONT)
    site.supervisor.kill()
    site.supervisor.wait()
    down = min(timed(command) for _ in range(10))
    print({"bare": bare, "up": alive, "hung": hung, "down": down})


def timed(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, capture_output=True)
    return round(time.monotonic() - begun, 3)


# ----------------------------------------------------------------------------------- instances


def test_the_instances_of_a_database_are_shown_and_inherit_from_each_other(site: Site) -> None:
    up(site)
    second = site.start(ready=False, BROKERRUN_NAME="second")
    eventually(lambda: site.log().count("event=supervisor_started") == 2, 10)
    (row,) = site.status()["instances"]
    assert (row["name"], row["host"], row["pid"]) == ("second", socket.gethostname(), second.pid)
    assert (row["alive"], row["workers"], row["stopped_at"]) == (True, "q=1", None)
    assert os.path.exists(row["socket"])
    assert site.run("scale", "q=2", BROKERRUN_NAME="second").returncode == 0
    eventually(lambda: site.status()["instances"][0]["workers"] == "q=2")
    assert site.run("scale", "q=1", BROKERRUN_NAME="second").returncode == 0
    assert row["version"]
    shown = site.run("status", BROKERRUN_NAME="second").stdout
    assert f"also default on {socket.gethostname()}: up, " in shown
    site.write("q", "wait-a", "wait-b")
    site.noted("begun wait-a")
    site.noted("begun wait-b")
    second.kill()
    second.wait()
    site.release("wait-a")
    site.release("wait-b")
    site.empty("q", 5)  # what the dead one held, too
    (row,) = site.status()["instances"]
    assert (row["alive"], row["stopped_at"]) == (False, None)
