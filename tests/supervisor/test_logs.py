"""How the fleet logs: one line an event, never the body."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from multiprocessing.connection import Connection as Talk
from pathlib import Path
from threading import Thread, get_ident
from typing import Any

import pytest
from supervised import Site
from support import Child, eventually

from brokerrun.supervisor import logs
from brokerrun.supervisor.logs import logger, set_up_logs

SAY = """
import json, sys
from brokerrun.supervisor.logs import logger, set_up_logs
form, level, event, facts = json.loads(sys.argv[1])
set_up_logs(form, level)
log = logger()
log.info(event, **facts)
log.debug("a_detail")
"""


def said(form: str, level: str = "info", event: str = "a_thing_happened", **facts: Any) -> str:
    """Log one event in a process of its own; return what it wrote to standard error."""
    read_fd, write_fd = os.pipe()

    def say(talk: Talk) -> None:
        os.dup2(write_fd, 2)
        set_up_logs(form, level)
        log = logger()
        log.info(event, **facts)
        log.debug("a_detail")

    child = Child(say)
    os.close(write_fd)
    with open(read_fd, "rb") as stderr:
        text = stderr.read().decode()
    child.ends_well()
    return text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash here", r'"back\\slash here"'),
        ("line\nbreak", r'"line\nbreak"'),
        ("tab\there", r'"tab\there"'),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ("return\rhere", r'"return\rhere"'),
        ("\u2028separator", r'"\u2028separator"'),
        ("ümlaut", "ümlaut"),
        ("lone \ud800", r'"lone \ud800"'),
        (None, ""),
        (True, "true"),
        (1.0, "1"),
        (0.123456789, "0.123457"),
        (7, "7"),
    ],
)
def test_logfmt_writes_a_value_so_that_it_can_be_read_back(value: Any, written: str) -> None:
    line = said("logfmt", value=value)
    assert line.endswith(f" value={written}\n")


def test_logfmt_begins_with_time_level_and_event() -> None:
    keys = [part.partition("=")[0] for part in said("logfmt", queue="q").split(" ")]
    assert keys == ["timestamp", "level", "event", "queue"]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_one_event_is_one_line_whatever_it_says(form: str) -> None:
    text = said(form, error="a\nb\r\nc\x0bd\x0ce\x1cf\x85g\u2028h")
    assert text.count("\n") == 1
    assert len([line for line in text.split("\n") if line]) == 1


def test_json_is_one_object_a_line_with_all_facts() -> None:
    facts = {"error": 'a "b"\n\x1b', "attempt": 2, "delay": 1.5, "id": 1 << 62}
    found = json.loads(said("json", **facts))
    assert {key: found[key] for key in facts} == facts
    assert (found["event"], found["level"]) == ("a_thing_happened", "info")


def test_auto_is_logfmt_where_nobody_looks() -> None:
    assert "event=a_thing_happened" in said("auto")


@pytest.mark.parametrize(
    ("env", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_auto_is_pretty_on_a_terminal_and_has_no_colours_where_none_are_wanted(
    env: dict[str, str], colours: bool
) -> None:
    ours, theirs = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    arguments = json.dumps(["auto", "info", "a_thing_happened", {"queue": "q"}])
    subprocess.run(
        [sys.executable, "-c", SAY, arguments],
        stderr=theirs,
        env=plain | {"TERM": "xterm"} | env,
        check=True,
    )
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert "a_thing_happened" in text
    assert "event=" not in text
    assert ("\x1b[" in text) is colours


def test_pretty_in_a_pipe_has_no_escapes() -> None:
    assert "\x1b" not in said("pretty", queue="q")


def test_what_is_below_the_level_is_not_said() -> None:
    assert "a_detail" not in said("logfmt", "info")
    assert "a_detail" in said("logfmt", "debug")
    assert said("logfmt", "warning") == ""


def test_a_reader_that_went_away_stops_nobody() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    arguments = json.dumps(["logfmt", "debug", "a_thing_happened", {}])
    with io.FileIO(write_fd, "w") as broken:
        done = subprocess.run([sys.executable, "-c", SAY, arguments], stderr=broken)
    assert done.returncode == 0


CANARY = "canary-7f3a"


@pytest.mark.parametrize("form", ["logfmt", "json", "pretty"])
def test_a_body_is_never_logged(tmp_path: Path, form: str) -> None:
    site = Site(tmp_path)
    site.handlers("""
        def q(job):
            job.log.info("seen", attempt=job.attempt)
            if job.attempt == 1:
                raise Retry(0)
            if job.attempt == 2:
                os._exit(3)
            if job.attempt == 3:
                time.sleep(60)
            if job.attempt == 4:
                raise ValueError("no")
        """)
    site.configure(
        instance={"log_level": "debug", "log": form},
        q={"backoff": ["0s"], "timeout": "300ms", "crashes": 9, "mode": "move", "prefetch": 4},
    )
    ident = site.write("q", CANARY, f"{CANARY}-2")[0]
    try:
        site.start()
        eventually(lambda: len(site.ids("q.dlq")) == 2, 10)
        assert site.outcomes(ident) == ["retry", "died", "timeout", "failed"]
        assert site.stop() == 0
        text = site.log()
        assert CANARY not in text
        for event in ("seen", "worker_died", "message_settled", "worker_ready"):
            assert event in text
        if form == "json":
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    finally:
        site.close()


def test_who_follows_is_told_what_another_thread_logs_by_the_one_it_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_hearers", [])
    lines = logs.RecentLines()
    told: list[tuple[str, int]] = []
    lines.follow(lambda line: told.append((line, get_ident())) is None)
    other = Thread(target=logs._hearers[0], args=("a line",))
    other.start()
    other.join()
    assert (told, lines.last(1)) == ([], ["a line"])
    lines.tell()
    assert told == [("a line", get_ident())]
