"""What `broker` prints and exits with. Most of it is recorded from SimpleBroker 3.6.1."""
# ruff: noqa: E501

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brokerrun.cli.history import _table
from brokerrun.core.broker import MAX_MESSAGE_BYTES, Broker
from brokerrun.core.model import Attempt, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import Event

BROKER = [sys.executable, "-m", "brokerrun.cli.broker"]
Run = Callable[..., subprocess.CompletedProcess[bytes]]

# One session of SimpleBroker 3.6.1: command line, standard input, standard output with each id
# as N, exit status.
SESSION = [
    ("read q", "", "", 2),
    ("peek q", "", "", 2),
    ("list", "", "", 0),
    ("stats q", "", "q: 0\n", 0),
    (
        "stats q --json",
        "",
        '{"queue": "q", "pending": 0, "claimed": 0, "total": 0, "exists": false}\n',
        0,
    ),
    ("exists q", "", "", 2),
    ("exists q --json", "", '{"queue": "q", "exists": false}\n', 2),
    ("delete q", "", "", 0),
    ("delete q -m 1837025672140161024", "", "", 2),
    ("write q one", "", "", 0),
    ("write q -", "two\nlines\n", "", 0),
    ("write q", "piped", "", 0),
    ("write q -5", "", "", 0),
    ("write q '- x'", "", "", 0),
    ("write q ''", "", "", 0),
    ("write q 'tab\t\"quote\" ü \x01'", "", "", 0),
    ("write other x", "", "", 0),
    ("peek q", "", "one\n", 0),
    ("peek q -t", "", "N\tone\n", 0),
    ("peek q --json", "", '{"message": "one", "timestamp": N}\n', 0),
    (
        "peek q --all --json",
        "",
        '{"message": "one", "timestamp": N}\n{"message": "two\\nlines\\n", "timestamp": N}\n{"message": "piped", "timestamp": N}\n{"message": "-5", "timestamp": N}\n{"message": "- x", "timestamp": N}\n{"message": "", "timestamp": N}\n{"message": "tab\\t\\"quote\\" ü \\u0001", "timestamp": N}\n',
        0,
    ),
    ("peek q --after 2100-01-01", "", "", 2),
    ("peek q --before 1960-01-01", "", "", 2),
    ("peek q --after 1960-01-01 -t", "", "N\tone\n", 0),
    ("read q", "", "one\n", 0),
    ("read q -t", "", "N\ttwo\nlines\n\n", 0),
    ("move q r", "", "piped\n", 0),
    ("move q r --json", "", '{"message": "-5", "timestamp": N}\n', 0),
    ("move q q", "", "", 1),
    ("list", "", "other: 1\nq: 3\nr: 2\n", 0),
    (
        "list --stats",
        "",
        "other: 1\nq: 3 (5 total, 2 claimed)\nr: 2\n\nTotal claimed messages: 2/8\n",
        0,
    ),
    (
        "list --stats --json",
        "",
        '{"queue": "other", "pending": 1, "claimed": 0, "total": 1, "exists": true}\n{"queue": "q", "pending": 3, "claimed": 2, "total": 5, "exists": true}\n{"queue": "r", "pending": 2, "claimed": 0, "total": 2, "exists": true}\n',
        0,
    ),
    ("list --prefix o", "", "other: 1\n", 0),
    ("list --prefix %", "", "", 1),
    ("list --pattern '?'", "", "q: 3\nr: 2\n", 0),
    ("list --pattern zzz", "", "", 0),
    ("list --prefix a --pattern b", "", "", 1),
    ("stats q", "", "q: 3 (5 total, 2 claimed)\n", 0),
    (
        "stats q --json",
        "",
        '{"queue": "q", "pending": 3, "claimed": 2, "total": 5, "exists": true}\n',
        0,
    ),
    ("exists q", "", "", 0),
    ("read q -m 12", "", "", 1),
    ("read q -m 1837025672140161024", "", "", 2),
    ("read q --after september", "", "", 1),
    ("read q -m 1837025672140161024 --all", "", "", 1),
    ("read q --all", "", '- x\n\ntab\t"quote" ü \x01\n', 0),
    ("read q --all", "", "", 2),
    ("move q r --all", "", "", 2),
    ("exists q", "", "", 0),
    ("list", "", "other: 1\nr: 2\n", 0),
    ("delete", "", "", 1),
    ("delete q --all", "", "", 1),
    ("delete r", "", "", 0),
    ("list --stats", "", "other: 1\nq: 0 (5 total, 5 claimed)\n\nTotal claimed messages: 5/6\n", 0),
    ("delete --all", "", "", 0),
    ("list --stats", "", "", 0),
    ("write .q x", "", "", 1),
    ("write q a b", "", "", 1),
    ("write", "", "", 1),
    ("reed q", "", "", 1),
    ("peek q --limit 5", "", "", 1),
    ("peek q -- --all", "", "", 1),
    ("list x", "", "", 1),
    ("-f 'a;b' list", "", "", 1),
    ("-f ../x.db list", "", "", 1),
    ("-d /nonexistent list", "", "", 1),
    ("list -d .", "", "", 1),
]


@pytest.fixture
def broker(tmp_path: Path) -> Run:
    def run(
        line: str, stdin: bytes | int = b"", **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        given = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": tmp_path,
            "timeout": 30,
        }
        return subprocess.run(BROKER + shlex.split(line), **{**given, **source, **more})  # type: ignore[call-overload,no-any-return]

    return run


def test_a_session_goes_as_with_simplebroker(broker: Run) -> None:
    for line, stdin, stdout, status in SESSION:
        done = broker(line, stdin.encode())
        shown = re.sub(r', "id": "N"', "", re.sub(r"\d{19}", "N", done.stdout.decode()))
        assert (line, shown, done.returncode) == (line, stdout, status)
        assert (status == 1) is bool(done.stderr), line
        assert b"Traceback" not in done.stderr


def test_lookers_make_no_database(broker: Run, tmp_path: Path) -> None:
    for line in ("read q", "peek q", "move a b", "list", "stats q", "exists q", "delete q"):
        broker(line)
    assert broker("history 1837025672140161024").returncode == 2
    assert os.listdir(tmp_path) == []


def test_json_names_the_id_as_text_too(broker: Run) -> None:
    written = json.loads(broker("write q hello --json").stdout)
    read = broker("read q --json").stdout.decode()
    assert written == {"id": str(written["timestamp"]), "timestamp": written["timestamp"]}
    assert (
        read == f'{{"message": "hello", "timestamp": {written["id"]}, "id": "{written["id"]}"}}\n'
    )


def test_json_tells_delayed_and_attempts_only_where_they_say_something(
    broker: Run, tmp_path: Path
) -> None:
    with Broker(str(tmp_path / ".broker.db")) as store:
        store.write("q", "later", delay=60)
    facts = json.loads(broker("peek q --json").stdout)
    assert facts["state"] == "delayed"
    assert isinstance(facts["ready_at"], float)
    assert "attempts" not in facts
    assert broker("read q").returncode == 2


def test_history_and_peek_tell_of_attempts_and_leases(broker: Run, tmp_path: Path) -> None:
    with Broker(str(tmp_path / ".broker.db")) as store:
        store.write("q", "work")
        owner = new_guardian()
        store.store.begin_life(owner)
        (claim,) = store.store.work([], Wanted("q", owner))[1]
        shown = json.loads(broker("peek q --json").stdout)
        assert (shown["state"], shown["attempts"]) == ("leased", 1)
        assert broker("read q").returncode == 2
        attempt = Attempt(claim.id, "q", 1, "retry", error="boom", signal=9, started_at=10**9)
        store.store.work([Settlement(claim.id, claim.receipt, Event.RETRY, attempt=attempt)])
    facts = json.loads(broker(f"history {claim.id} --json").stdout)
    assert (facts["id"], facts["signal_name"], facts["started_at"]) == (
        str(claim.id),
        "SIGKILL",
        1.0,
    )
    assert b"SIGKILL" in broker(f"history {claim.id}").stdout
    assert json.loads(broker("read q --json").stdout)["attempts"] == 1


def test_stuck_reader_does_not_hold_a_command_that_is_told_to_end(
    broker: Run, tmp_path: Path
) -> None:
    ident = broker("write q - -t", b"x" * 300_000).stdout.decode().strip()
    process = subprocess.Popen(
        [*BROKER, "read", "q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    os.read(process.stdout.fileno(), 1)  # it prints now, and the pipe is full
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    process.stderr.close()
    assert broker("peek q -t").stdout.startswith(ident.encode())  # it went back whole


def test_write_prints_the_new_id(broker: Run) -> None:
    ident = broker("write q hello -t").stdout.decode().strip()
    assert broker("peek q -t").stdout.decode() == f"{ident}\thello\n"
    assert broker(f"delete q -m {ident}").returncode == 0


@pytest.mark.parametrize(
    ("stdin", "bodies"),
    [
        (b"", []),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\nlast", ["a", "last"]),
        (b"dos\r\n", ["dos\r"]),
    ],
)
def test_lines_are_messages(broker: Run, stdin: bytes, bodies: list[str]) -> None:
    done = broker("write q --lines -t", stdin)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(bodies)
    shown = broker("peek q --all --json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in shown] == bodies


@pytest.mark.parametrize("line", ["write q -", "write q", "write q --lines"])
@pytest.mark.parametrize(
    ("stdin", "reason"),
    [(b"ok\n\xff\xfe\n", b"UTF-8"), (b"x" * (MAX_MESSAGE_BYTES + 2), b"larger than 10485760")],
)
def test_bad_input_is_refused_whole(
    broker: Run, line: str, stdin: bytes, reason: bytes, tmp_path: Path
) -> None:
    done = broker(line, stdin)
    assert done.returncode == 1
    assert reason in done.stderr
    assert os.listdir(tmp_path) == []


def test_input_of_the_greatest_size_is_kept_whole(broker: Run) -> None:
    assert broker("write q -", b"x" * (MAX_MESSAGE_BYTES - 1) + b"\n").returncode == 0
    assert len(broker("read q").stdout) == MAX_MESSAGE_BYTES + 1


def test_write_without_a_message_at_a_terminal_is_an_error(broker: Run) -> None:
    ours, theirs = pty.openpty()
    try:
        done = broker("write q", theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, b"no message" in done.stderr) == (1, True)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_write_stores_nothing(tmp_path: Path, signum: int, status: int) -> None:
    process = subprocess.Popen(
        [*BROKER, "write", "q", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdin is not None
    process.stdin.write(
        b"x" * 200_000
    )  # more than a pipe holds: it is being read when this returns
    process.stdin.flush()
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert b"Traceback" not in said
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "line", ["read q -m 12", "write q --jsn", "reed q", "peek .q", "-f 'a;b' list"]
)
def test_an_error_is_one_sentence_or_one_object(broker: Run, line: str) -> None:
    said = broker(f"-q {line}").stderr.decode()
    assert said.startswith("broker: error: ")
    assert said.count("\n") == 1
    facts = json.loads(broker(f"{line} --json").stderr)
    assert set(facts) == {"error", "message", "hint", "code"}
    assert facts["code"] == 1


def test_read_with_a_full_disk_costs_nothing_and_says_so(broker: Run) -> None:
    broker("write q precious")
    with open("/dev/full", "wb") as full:
        done = broker("read q", stdout=full)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"what was not printed is where it was" in done.stderr
    assert broker("read q").stdout == b"precious\n"


@pytest.mark.parametrize("line", ["list", "--help", "peek q", "write q x -t"])
def test_full_disk_is_an_error_everywhere(broker: Run, line: str) -> None:
    broker("write q x")
    with open("/dev/full", "wb") as full:
        done = broker(line, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"broker: error: ")
    assert done.stderr.count(b"\n") == 1


def test_reader_that_is_gone_takes_nothing(broker: Run) -> None:
    broker("write q --lines", b"x\n" * 50)
    ours, theirs = os.pipe()
    os.close(ours)
    done = broker("read q --all", stdout=theirs)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")
    assert broker("stats q").stdout == b"q: 50\n"


def test_closed_output_takes_nothing(broker: Run, tmp_path: Path) -> None:
    broker("write q x")
    command = shlex.join([*BROKER, "read", "q"])
    done = subprocess.run(["sh", "-c", f"{command} >&-"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr
    assert broker("read q").stdout == b"x\n"


def test_output_is_utf8_whatever_the_locale(broker: Run) -> None:
    broker("write q -", "ü€\n".encode())
    done = broker(
        "read q", env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    assert done.stdout == "ü€\n\n".encode()


def test_json_of_a_queue_tells_what_waits_for_its_time_and_what_is_in_hand(broker: Run) -> None:
    broker("write q now")
    plain = {"queue": "q", "pending": 1, "claimed": 0, "total": 1, "exists": True}
    assert json.loads(broker("stats q --json").stdout) == plain
    broker("write q later --delay 1h")
    broker("claim q")
    parts = {"pending": 2, "total": 2, "delayed": 1, "running": 1}
    assert json.loads(broker("stats q --json").stdout) == plain | parts
    assert json.loads(broker("list --json").stdout) == plain | parts


def test_what_an_error_repeats_moves_no_cursor_and_begins_no_line(broker: Run) -> None:
    said = broker("load 'a\rb\x1b[31m\u2028c\nd'").stderr.decode()
    assert (
        said
        == "broker: error: a\\rb\\x1b[31m\\u2028c d: cannot be read: No such file or directory\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_command_moves_a_million_and_no_more(broker: Run, tmp_path: Path) -> None:
    with Broker(str(tmp_path / ".broker.db")) as store:
        for _ in range(11):
            store.write_many("q", ["x"] * 100_000)
    with open(os.devnull, "wb") as nowhere:
        assert broker("move q r --all", stdout=nowhere, timeout=300).returncode == 0
    assert broker("list").stdout == b"q: 100000\nr: 1000000\n"


def test_version_and_bare_call(broker: Run) -> None:
    assert re.fullmatch(rb"broker \d+\.\d+\.\d+\n", broker("--version").stdout)
    bare = broker("")
    assert (bare.returncode, bare.stderr) == (0, b"")
    assert bare.stdout.startswith(b"Usage: broker")


def test_history_shows_signal_error_and_traceback_below_each_attempt() -> None:
    second = 10**9
    attempts = [
        Attempt(5, "q", 1, "retry", error="it broke", traceback="Traceback\n  File", exit_status=3),
        Attempt(
            5, "q", 2, "dead", signal=9, pid=7, host="h", started_at=second, ended_at=2 * second
        ),
    ]
    assert list(_table(attempts)) == [
        "ATTEMPT  OUTCOME  WHEN                  TOOK    PID  HOST  ENDED BY",
        "1        retry    -                     -       -    -     exit 3",
        "    it broke",
        "    Traceback",
        "      File",
        "2        dead     1970-01-01T00:00:01Z  1.000s  7    h     SIGKILL",
    ]
