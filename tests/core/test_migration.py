"""A database of version 1 is brought up at its first use, whoever else uses it."""

from __future__ import annotations

import sqlite3
import time
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from support import Child, eventually

from brokerrun import Broker
from brokerrun.core.backends.sqlite import birth
from brokerrun.core.model import Selection
from brokerrun.core.statements import beside
from brokerrun.errors import StoreError

EVERY = Selection(limit=None)
OLD_ID = 1795545666661470208


def version_of(database: str) -> int:
    """Return the version as one sees it who reads the log too."""
    db = sqlite3.connect(database)
    try:
        return int(db.execute("pragma user_version").fetchone()[0])
    finally:
        db.close()


def make_first_version(database: str) -> sqlite3.Connection:
    """Make what the first version made, with a message in it; return the open connection."""
    with open(beside(birth.__file__, "schema.sql"), encoding="utf-8") as file:
        schema = file.read()
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("pragma auto_vacuum = incremental")
    db.executescript(
        f"begin; pragma application_id = {birth.APPLICATION_ID}; {schema}"
        "pragma user_version = 1; commit"
    )
    db.execute("pragma journal_mode = wal")
    db.execute("pragma wal_autocheckpoint = 0")
    db.execute("insert into queue(name) values ('q')")
    db.execute("insert into message(id, queue, body) values (?, 1, 'old')", (OLD_ID,))
    return db


def use(database: str) -> list[str]:
    """Use all that the later versions brought."""
    with Broker(database) as broker:
        broker.store.begin_schedule("s", "every 60", 0)
        assert [schedule.name for schedule in broker.store.schedules()] == ["s"]
        broker.write("q", "new")
        broker.store.add_alias("a", "q")
        broker.broadcast("all")
        return [message.body for message in broker.peek("@a", EVERY)]


def test_a_database_at_rest_is_brought_up(database: str) -> None:
    make_first_version(database).close()
    with Broker(database, create=False) as looker:
        assert [message.id for message in looker.peek("q")] == [OLD_ID]
    assert version_of(database) == len(birth.MIGRATIONS)
    assert use(database) == ["old", "new", "all"]
    assert sorted(path.name for path in Path(database).parent.iterdir()) == [
        "queue.db",
        "queue.db.lock",
    ]


def test_a_database_that_another_process_has_open_is_brought_up_once(database: str) -> None:
    def stay(talk: Talk) -> None:
        db = make_first_version(database)
        talk.send("open")
        talk.recv()
        db.execute("insert into message(id, queue, body) values (?, 1, 'late')", (OLD_ID + 1,))
        talk.send(db.execute("select count(*) from message").fetchone()[0])
        talk.recv()

    old = Child(stay)
    old.hear()
    # The first brings it up, in the log alone: the file itself says version 1 to the others.
    for _ in range(3):
        with Broker(database) as broker:
            assert broker.peek("q")[0].id == OLD_ID
    assert Path(database).read_bytes()[60:64] == (1).to_bytes(4, "big")
    assert use(database) == ["old", "new", "all"]
    old.say("write")
    assert old.hear() == 4
    with Broker(database) as broker:
        assert [message.body for message in broker.peek("q", EVERY)][:2] == ["old", "late"]
    old.say("end")
    old.ends_well()
    assert version_of(database) == len(birth.MIGRATIONS)


def test_several_that_meet_an_old_database_at_once_bring_it_up_once(database: str) -> None:
    make_first_version(database).close()

    def meet(talk: Talk) -> None:
        talk.recv()
        with Broker(database) as broker:
            broker.write("q", "x")

    met = [Child(meet) for _ in range(5)]
    for child in met:
        child.say("go")
    for child in met:
        child.ends_well()
    with Broker(database) as broker:
        assert broker.stats("q").total == 6


def test_one_that_is_killed_in_between_leaves_the_old_version_whole(
    database: str, tmp_path: Path
) -> None:
    make_first_version(database).close()
    with open(beside(birth.__file__, "aliases.sql"), encoding="utf-8") as file:
        step = file.read()
    slow = tmp_path / "slow.sql"
    slow.write_text(
        step + "with recursive n(i) as (select 1 union all select i + 1 from n)"
        " select count(*) from n;"
    )

    def upgrade(talk: Talk) -> None:
        birth.MIGRATIONS = ("schema.sql", str(slow))
        talk.send("begins")
        Broker(database).queues()

    child = Child(upgrade)
    child.hear()
    eventually(lambda: all(locked(database) for _ in range(50)))  # not by one statement alone
    child.kill()
    assert version_of(database) == 1
    assert use(database) == ["old", "new", "all"]


def locked(database: str) -> bool:
    """Tell whether somebody is inside a write transaction."""
    db = sqlite3.connect(database, timeout=0, isolation_level=None)
    try:
        db.execute("begin immediate")
        db.execute("rollback")
    except sqlite3.OperationalError:
        return True
    finally:
        db.close()
    return False


def test_a_migration_that_fails_changes_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_first_version(database).close()
    bad = tmp_path / "bad.sql"
    bad.write_text("create table half(x);\ncreate table queue(x);\n")
    monkeypatch.setattr(birth, "MIGRATIONS", ("schema.sql", str(bad)))
    begun = time.monotonic()
    with pytest.raises(StoreError, match="queue already exists"):
        Broker(database).queues()
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    assert version_of(database) == 1
    with sqlite3.connect(database) as db:
        assert db.execute("select * from sqlite_master where name = 'half'").fetchall() == []
    db.close()
    assert use(database) == ["old", "new", "all"]
