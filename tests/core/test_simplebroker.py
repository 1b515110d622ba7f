"""SimpleBroker's database is read as it is, and left as it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from brokerrun.core.backends import read_simplebroker
from brokerrun.core.broker import Broker
from brokerrun.errors import BrokerrunError, StoreBusy, StoreMissing, StoreRefused

DATA = Path(__file__).parent.parent / "data"
VERSIONS = ["2_8_1", "3_6_1", "8_7_2"]
BODIES = ["first", "two\nlines \"quoted\" 'it''s' \t\x01 ü \U0001f600", "", "moved", "later"]


def made(path: Path, version: str = "3_6_1") -> sqlite3.Connection:
    """Make a database as that version does, and leave it open."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma wal_autocheckpoint = 0")
    db.executescript((DATA / f"simplebroker_{version}.sql").read_text(encoding="utf-8"))
    return db


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made(tmp_path / "theirs.db").close()
    return tmp_path / "theirs.db"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a folder of its own for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def state(path: Path) -> list[tuple[str, str, int, int]]:
    """Tell everything that a reader could change, of the file and of all beside it."""
    return [
        (one.name, hashlib.sha256(one.read_bytes()).hexdigest(), status.st_mtime_ns, status.st_mode)
        for one in sorted(path.parent.glob(path.name + "*"))
        for status in [one.stat()]
    ]


def bodies(path: Path) -> list[str]:
    with read_simplebroker(str(path)) as found:
        return [message.body for message in found.messages]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_not_read_is_found_by_id_and_what_was_read_is_counted(
    tmp_path: Path, version: str
) -> None:
    path = tmp_path / "theirs.db"
    with closing(made(path, version)) as db:
        ids = [row[0] for row in db.execute("select ts from messages order by ts")]
    with read_simplebroker(str(path)) as found:
        messages = list(found.messages)
        assert (found.aliases, found.left_out) == ([("inbox", "mail")], 1)
    assert [message.body for message in messages] == BODIES
    assert [message.queue for message in messages] == ["jobs", "jobs", "mail", "other", "other"]
    assert [message.id for message in messages] == ids[1:]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_source_is_untouched_and_nothing_is_left(
    tmp_path: Path, temporary: Path, version: str
) -> None:
    path = tmp_path / "theirs.db"
    made(path, version).close()
    os.chmod(path, 0o440)
    before = state(path)
    with read_simplebroker(str(path)) as found:
        [folder] = temporary.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        list(found.messages)
    assert state(path) == before
    assert [name for name, *_ in before] == ["theirs.db"]
    assert list(temporary.iterdir()) == []


def test_what_stands_in_the_log_alone_is_found_and_the_log_stays(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(made(path)) as db:
        db.execute("insert into messages(queue, body, ts) values ('jobs', 'logged', ?)", (10**18,))
        before = state(path)
        assert [name for name, *_ in before] == ["theirs.db", "theirs.db-shm", "theirs.db-wal"]
        assert path.stat().st_size <= 4096  # all of it is in the log
        assert sorted(bodies(path)) == sorted([*BODIES, "logged"])
        assert state(path) == before


def test_a_log_that_a_killed_process_left_is_read_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from test_simplebroker import made; made(Path(sys.argv[2])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(path)])
    before = state(path)
    assert len(before) == 3
    assert bodies(path) == BODIES
    assert state(path) == before


def test_a_half_written_transaction_is_rolled_back_in_the_copy(source: Path) -> None:
    """In the old journal mode: what was there before is in a file beside the database."""
    with closing(sqlite3.connect(source, isolation_level=None)) as db:
        db.execute("pragma journal_mode = delete")
        db.execute("pragma cache_size = 1")
        db.execute("pragma cache_spill = 1")
        db.execute("begin")
        db.execute("update messages set body = printf('%.*c', 9000, 'x')")
        db.execute("delete from messages")
        before = state(source)
        assert [name for name, *_ in before] == ["theirs.db", "theirs.db-journal"]
        assert bodies(source) == BODIES
        assert state(source) == before


def test_a_symbolic_link_is_followed_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with closing(made(tmp_path / "there" / "theirs.db")):
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "there" / "theirs.db")
        assert bodies(link) == BODIES


def test_a_database_of_the_oldest_layout_has_no_read_messages(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(made(path)) as db:
        db.executescript(
            "drop index idx_messages_unclaimed; alter table messages drop column claimed;"
            "drop table queue_aliases; update meta set value = 1 where key = 'schema_version'"
        )
    with read_simplebroker(str(path)) as found:
        assert len(list(found.messages)) == 6
        assert (found.aliases, found.left_out) == ([], 0)


SCRIPTS = [
    ("update meta set value = 'other' where key = 'magic'", "not a SimpleBroker database"),
    ("drop table meta", "not a SimpleBroker database"),
    ("update meta set value = 7 where key = 'schema_version'", r"unknown layout \(7; known: 1 to"),
    ("delete from meta where key = 'schema_version'", r"unknown layout \(None"),
    ("drop table messages", "unknown layout"),
    ("update messages set body = x'ff'", "is not text"),
    ("update messages set body = cast(x'ff' as text)", "damaged: .*UTF-8"),
    ("pragma application_id = 0x62726b72", "a brokerrun database: `broker -f .* dump"),
]


@pytest.mark.parametrize(("script", "reason"), SCRIPTS)
def test_what_cannot_be_taken_over_is_refused(source: Path, script: str, reason: str) -> None:
    with closing(sqlite3.connect(source)) as db:
        db.executescript(script)
    before = state(source)
    with pytest.raises(StoreRefused, match=f"theirs.db: .*{reason}"):
        bodies(source)
    assert state(source) == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    for name, content in (("text", b"hello " * 1000), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreRefused, match=f"{name}: not a SimpleBroker database"):
            bodies(tmp_path / name)
    with pytest.raises(StoreRefused, match="not a file"):
        bodies(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreRefused, match="not a file"):
        bodies(tmp_path / "pipe")


def test_a_file_that_is_missing_or_below_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"nothing.db: no such file"):
        bodies(tmp_path / "nothing.db")
    (tmp_path / "file").touch()
    with pytest.raises(BrokerrunError, match=r"file/x.db: Not a directory"):
        bodies(tmp_path / "file" / "x.db")


def test_a_damaged_database_is_refused(source: Path) -> None:
    """Each page in turn is overwritten: refused, or whole without it."""
    whole = source.read_bytes()
    damaged = 0
    for start in range(0, len(whole), 4096):
        source.write_bytes(whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :])
        try:
            assert bodies(source) == BODIES
        except StoreRefused:
            damaged += 1
    assert damaged >= len(whole) // 4096 - 1


def writing(path: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Change a file without rest."""
    program = """
import os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
end = time.monotonic() + float(sys.argv[2])
number = 0
print(flush=True)
while time.monotonic() < end:
    number += 1
    os.pwrite(file, number.to_bytes(8, "big"), 0)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path), str(seconds)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


@pytest.fixture
def great(source: Path) -> Path:
    """Give the source a log that takes a while to copy; SQLite reads none of it."""
    log = Path(f"{source}-wal")
    log.touch()
    os.truncate(log, 16 * 1024 * 1024)
    return log


def test_a_source_that_somebody_writes_to_all_the_time_is_refused(
    source: Path, temporary: Path, great: Path
) -> None:
    with writing(great, 60) as writer:
        try:
            with pytest.raises(StoreBusy, match=r"theirs.db: somebody is writing to it"):
                bodies(source)
        finally:
            writer.kill()
    assert list(temporary.iterdir()) == []


def test_a_source_that_changes_for_a_moment_is_copied_again(source: Path, great: Path) -> None:
    started = time.monotonic()
    with writing(great, 0.1):
        assert bodies(source) == BODIES
    assert time.monotonic() - started > 0.05


def test_to_open_it_is_refused_with_the_command_that_imports_it(source: Path) -> None:
    before = state(source)
    started = time.monotonic()
    with pytest.raises(StoreRefused, match=rf"`broker -f NEW.db import {source}` takes over"):
        Broker(str(source)).write("q", "x")
    assert time.monotonic() - started < 1
    assert state(source) == before


def test_a_refusal_leaves_a_log_that_a_killed_process_left(source: Path, tmp_path: Path) -> None:
    left = tmp_path / "left.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as db:
        db.execute("insert into messages(queue, body, ts) values ('jobs', 'logged', 1)")
        for end in ("", "-wal"):
            shutil.copy(f"{source}{end}", f"{left}{end}")
    before = state(left)
    assert len(before) == 2
    with pytest.raises(StoreRefused, match="takes over"):
        Broker(str(left)).write("q", "x")
    assert state(left) == before


def test_a_path_with_a_space_is_quoted_in_that_command(tmp_path: Path) -> None:
    path = tmp_path / "two words.db"
    made(path).close()
    with pytest.raises(StoreRefused, match=r"import '.*/two words.db'`"):
        Broker(str(path)).write("q", "x")


def test_another_strange_database_is_refused_without_that_command(tmp_path: Path) -> None:
    for script in ("create table t(x)", "create table meta(key, value)", "create table meta(x)"):
        path = tmp_path / "strange.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.execute(script)
        with pytest.raises(StoreRefused, match="but not brokerrun's; it was left as it is"):
            Broker(str(path)).write("q", "x")
