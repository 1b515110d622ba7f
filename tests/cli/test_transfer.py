"""`broker dump`, `load` and `import`: out of one file and into another."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

BROKER = [sys.executable, "-m", "brokerrun.cli.broker"]
DATA = Path(__file__).parent.parent / "data"
ID = 1_700_000_000_000_000_000
LINE = {"queue": "q", "message": "m", "timestamp": ID, "id": str(ID)}
ODD = ["", "two\nlines\n", "quote \" ' \\", "\x01\x1f\x7f\u2028", "\U0001f600 ü", "y" * 1_000_000]
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def broker(tmp_path: Path) -> Run:
    def run(line: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = BROKER + shlex.split(line)
        return subprocess.run(words, cwd=tmp_path, input=stdin, capture_output=True, timeout=60)

    return run


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, str]:
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def out(done: subprocess.CompletedProcess[bytes]) -> str:
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def refusal(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one sentence of a refusal."""
    assert (done.returncode, done.stdout) == (1, b"")
    [sentence] = done.stderr.decode().splitlines()
    return sentence


def simplebroker(path: Path, version: str = "3_6_1") -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript((DATA / f"simplebroker_{version}.sql").read_text(encoding="utf-8"))
    return path


def test_a_dump_loaded_into_another_file_gives_the_same_dump(broker: Run, tmp_path: Path) -> None:
    for body in ODD:
        broker("write odd -", body.encode())
    broker("write later x --delay 1h")
    for priority in (5, -5, 0):
        broker(f"write urgent p{priority} --priority {priority}")
    broker("alias add inbox odd")
    first = out(broker("dump"))
    assert said(broker("-f other.db load", first.encode())) == (0, "", "")
    assert out(broker("-f other.db dump")) == first
    (tmp_path / "dump.ndjson").write_text(first, encoding="utf-8")
    done = broker("-f third.db load --json dump.ndjson")
    assert json.loads(out(done)) == {"loaded": 10, "aliases": 1}
    assert out(broker("-f third.db dump")) == first
    assert (tmp_path / "third.db").stat().st_mode & 0o777 == 0o600


def test_queues_of_a_dump_are_named_by_operands_a_prefix_or_a_pattern(broker: Run) -> None:
    for queue in ("jobs-b", "jobs-a", "mail"):
        broker(f"write {queue} x")
    broker("alias add inbox mail")

    def queues(options: str) -> list[str]:
        lines = map(json.loads, out(broker(f"dump {options}")).splitlines())
        return [line.get("queue", line.get("alias")) for line in lines]

    assert queues("") == ["jobs-a", "jobs-b", "mail", "inbox"]
    assert queues("mail jobs-b mail") == ["jobs-b", "mail"]
    assert queues("@inbox") == ["mail"]
    assert queues("--prefix jobs") == ["jobs-a", "jobs-b"]
    assert queues("--pattern '*a*'") == ["jobs-a", "mail"]
    assert queues("nosuch") == []
    assert queues("--pattern 'nosuch*'") == []


def test_a_dump_of_no_database_is_empty_and_makes_none(broker: Run, tmp_path: Path) -> None:
    for options in ("", "q", "--prefix q"):
        assert said(broker(f"dump {options}")) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("q --prefix q", "one of them"),
        ("--prefix q --pattern q", "one of them"),
        ("--prefix %", "invalid prefix '%'"),
        ("-- -q", "invalid queue name '-q'"),
        ("@nosuch", "alias '@nosuch' is not defined"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(
    broker: Run, options: str, reason: str
) -> None:
    broker("write q x")
    assert reason in refusal(broker(f"dump {options}"))


def test_a_dump_whose_reader_leaves_ends_with_0(broker: Run, tmp_path: Path) -> None:
    lines = "".join(f"{n} {'x' * 1000}\n" for n in range(2000))
    broker("write q --lines", lines.encode())
    dump = subprocess.Popen(
        [*BROKER, "dump"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert dump.stdout is not None
    assert dump.stderr is not None
    dump.stdout.readline()
    dump.stdout.close()
    assert (dump.wait(30), dump.stderr.read()) == (0, b"")
    dump.stderr.close()


def test_a_dump_that_the_disk_does_not_take_is_an_error(broker: Run, tmp_path: Path) -> None:
    broker("write q x")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*BROKER, "dump"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr


@pytest.mark.parametrize("text", [b"{bad\n", b'{"queue": "q"}\n', json.dumps(LINE).encode() * 2])
def test_a_wrong_dump_makes_no_database(broker: Run, tmp_path: Path, text: bytes) -> None:
    sentence = refusal(broker("load -", text))
    assert "line 1 of standard input: " in sentence
    assert "nothing was stored" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_line_stores_nothing_of_the_others(broker: Run) -> None:
    broker("write q mine")
    before = out(broker("dump"))
    good = json.dumps(LINE)
    for bad in (good, '{"alias": "inbox", "target": "other"}', "{"):
        broker("alias add inbox q")
        sentence = refusal(broker("load", f"{good}\n\n{bad}\n".encode()))
        assert "line 3 of standard input" in sentence
    broker("alias remove inbox")
    assert out(broker("dump")) == before


def test_to_load_twice_is_refused_with_the_line(broker: Run, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(f"\n{json.dumps(LINE)}\n")
    assert said(broker("load dump")) == (0, "", "")
    assert "line 2 of dump: message 1700000000000000000 is there" in refusal(broker("load dump"))
    error = json.loads(broker("load --json dump").stderr)
    assert error["error"] == "INVALID_MESSAGE"


def test_a_body_larger_than_the_setting_is_refused(
    broker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_MAX_MESSAGE_SIZE", "1024")
    text = json.dumps(LINE | {"message": "x" * 1025}).encode()
    assert "line 1 of standard input: message of 1025 bytes" in refusal(broker("load", text))


def test_a_file_that_cannot_be_read_is_named(broker: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, reason in (("nothing", "No such file"), ("folder", "Is a directory")):
        assert f"{name}: cannot be read: {reason}" in refusal(broker(f"load {name}"))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_signal_while_the_dump_is_read_stores_nothing(tmp_path: Path) -> None:
    load = subprocess.Popen([*BROKER, "load"], cwd=tmp_path, stdin=subprocess.PIPE)
    assert load.stdin is not None
    for number in range(200_000):  # more than the pipe holds: it was read when this returns
        load.stdin.write(json.dumps(LINE | {"id": ID + number, "timestamp": ID + number}).encode())
        load.stdin.write(b"\n")
        if number * 80 > 1_000_000:
            break
    load.stdin.flush()
    load.send_signal(signal.SIGTERM)
    assert load.wait(30) == 143
    load.stdin.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["2_8_1", "3_6_1", "8_7_2"])
def test_a_database_of_simplebroker_is_taken_over(
    broker: Run, tmp_path: Path, version: str
) -> None:
    theirs = simplebroker(tmp_path / "theirs.db", version)
    before = theirs.read_bytes(), theirs.stat().st_mtime_ns
    done = broker("-f new.db import theirs.db")
    assert out(done) == "imported 5 messages, 1 aliases; left out 1 read ones\n"
    assert (theirs.read_bytes(), theirs.stat().st_mtime_ns) == before
    assert out(broker("-f new.db list")) == "jobs: 2\nmail: 1\nother: 2\n"
    assert out(broker("-f new.db read other --all")) == "moved\nlater\n"
    with closing(sqlite3.connect(theirs)) as db:
        [[ident]] = db.execute("select ts from messages where body = 'first'")
    assert out(broker("-f new.db peek jobs -t")) == f"{ident}\tfirst\n"
    assert out(broker("-f new.db read @inbox -t")).endswith("\t\n")


def test_an_import_says_nothing_when_quiet_and_counts_as_json(broker: Run, tmp_path: Path) -> None:
    simplebroker(tmp_path / "theirs.db")
    assert said(broker("-q -f one.db import theirs.db")) == (0, "", "")
    counts = json.loads(out(broker("-f two.db import --json theirs.db")))
    assert counts == {"imported": 5, "aliases": 1, "left_out": 1}


def test_a_second_import_stores_nothing_and_says_so(broker: Run, tmp_path: Path) -> None:
    simplebroker(tmp_path / "theirs.db")
    broker("-f new.db import theirs.db")
    broker("-f new.db read jobs")
    before = out(broker("-f new.db dump"))
    sentence = refusal(broker("-f new.db import theirs.db"))
    assert "is there already: nothing was stored" in sentence
    assert out(broker("-f new.db dump")) == before


def test_an_import_goes_beside_what_is_there(broker: Run, tmp_path: Path) -> None:
    simplebroker(tmp_path / "theirs.db")
    broker("write jobs mine")
    out(broker("import theirs.db"))
    assert out(broker("list")) == "jobs: 3\nmail: 1\nother: 2\n"


def test_an_alias_that_stands_for_another_queue_is_refused(broker: Run, tmp_path: Path) -> None:
    simplebroker(tmp_path / "theirs.db")
    broker("alias add inbox jobs")
    assert "alias 'inbox' stands for 'jobs' already" in refusal(broker("import theirs.db"))
    assert out(broker("list")) == ""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"update messages set ts = {8 * 10**18} where body = 'first'", "more than a day ahead"),
        ("update messages set ts = 5 where body = 'first'", "invalid message id '5'"),
        ("update messages set queue = 'jobs' || char(10)", "invalid queue name"),
        ("update messages set body = printf('%.*c', 11000000, 'x')", "at most 10485760 are"),
        ("update meta set value = 99 where key = 'schema_version'", "unknown layout"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_made(
    broker: Run, tmp_path: Path, script: str, reason: str
) -> None:
    with closing(sqlite3.connect(simplebroker(tmp_path / "theirs.db"))) as db, db:
        db.execute(script)
    assert reason in refusal(broker("-f new.db import theirs.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


def test_an_import_into_itself_is_refused(broker: Run, tmp_path: Path) -> None:
    theirs = simplebroker(tmp_path / ".broker.db")
    (tmp_path / "link.db").symlink_to(theirs)
    before = theirs.read_bytes()
    for name in (".broker.db", "link.db", str(theirs)):
        assert "that is the database to import into" in refusal(broker(f"import {name}"))
    assert theirs.read_bytes() == before


def test_an_import_of_nothing_or_of_something_else_is_refused(broker: Run, tmp_path: Path) -> None:
    assert "nothing.db: no such file" in refusal(broker("import nothing.db"))
    (tmp_path / "text").write_text("hello")
    assert "text: not a SimpleBroker database" in refusal(broker("import text"))
    broker("-f ours.db write q x")
    assert "ours.db: a brokerrun database" in refusal(broker("import ours.db"))
    assert not (tmp_path / ".broker.db").exists()


def test_every_verb_names_the_command_that_takes_it_over(broker: Run, tmp_path: Path) -> None:
    theirs = simplebroker(tmp_path / ".broker.db")
    before = theirs.read_bytes()
    for line in ("write q x", "list", "dump", "--status", "load", "--cleanup"):
        sentence = refusal(broker(line, json.dumps(LINE).encode()))
        assert f"`broker -f NEW.db import {theirs}` takes over what is in it" in sentence
    assert theirs.read_bytes() == before
    assert os.listdir(tmp_path) == [".broker.db"]


WRITER = """
import os, sys
from simplebroker import Queue
queue = Queue("jobs", db_path="theirs.db", persistent=True)
for number in range(500):
    queue.write(f"job {number}")
assert queue.read() == "job 0"
os._exit(0)  # the log stays beside the database
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_database_that_simplebroker_3_6_1_itself_has_written_is_taken_over(
    broker: Run, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    theirs = tmp_path / "venv" / "bin"
    subprocess.run([theirs / "pip", "install", "-q", "simplebroker==3.6.1"], check=True)
    work = tmp_path / "work"
    work.mkdir()
    for words in (["write", "mail", "hello"], ["alias", "add", "inbox", "mail"]):
        subprocess.run([theirs / "broker", "-f", "theirs.db", *words], cwd=work, check=True)
    subprocess.run([theirs / "python", "-c", WRITER], cwd=work, check=True)
    parts = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in work.iterdir()}
    assert parts["theirs.db-wal"][0]
    done = broker("-f new.db import work/theirs.db")
    assert out(done) == "imported 500 messages, 1 aliases; left out 1 read ones\n"
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in work.iterdir()} == parts
    shown = subprocess.run(
        [theirs / "broker", "-f", "theirs.db", "peek", "jobs", "--all", "-t"],
        cwd=work,
        capture_output=True,
        check=True,
    )
    assert out(broker("-f new.db peek jobs --all -t")) == shown.stdout.decode()
