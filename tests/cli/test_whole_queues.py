"""alias, rename, broadcast, init, --status, --vacuum, --cleanup: what is done to whole queues."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from shell import Shell, end
from supervised import Site
from support import eventually, sleeps

from brokerrun.core.states import State

# ----------------------------------------------------------------------------------------- alias


def test_aliases_are_added_listed_by_name_and_removed(broker: Shell) -> None:
    for alias, queue in (("b", "q"), ("a", "q"), ("c", "r")):
        assert broker.ok(f"alias add {alias} {queue}") == ""
    assert broker.ok("alias list") == "a -> q\nb -> q\nc -> r"
    assert broker.ok("alias list --target q") == "a -> q\nb -> q"
    assert broker("alias list --target none").status == 2
    assert broker.ok("alias remove b") == ""
    assert broker.ok("alias list") == "a -> q\nc -> r"


def test_aliases_speak_json(broker: Shell) -> None:
    assert broker("alias add a q --json").json == [{"alias": "a", "target": "q"}]
    assert broker("alias list --json").json == [{"alias": "a", "target": "q"}]
    assert broker("alias remove a --json").json == [{"alias": "a", "target": None}]
    refused = broker("alias remove a --json")
    assert (refused.status, json.loads(refused.err)["code"]) == (1, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alias add a q", "alias 'a' is there already"),
        ("alias add a other", "alias 'a' is there already"),
        ("alias add b a", "'a' is itself an alias"),
        ("alias add z z", "an alias cannot stand for itself"),
        ("alias add @w q", "invalid queue name '@w'"),
        ("alias add w @a", "invalid queue name '@a'"),
        ("alias add w a/b", "invalid queue name 'a/b'"),
        ("alias remove nope", "alias 'nope' is not defined"),
        ("alias remove @a", "invalid queue name '@a'"),
        ("alias list --target @a", "invalid queue name '@a'"),
        ("alias", "missing command"),
        ("alias foo", "no such command 'foo'"),
    ],
)
def test_what_cannot_be_an_alias_is_refused(broker: Shell, line: str, said: str) -> None:
    broker.ok("alias add a q")
    done = broker(line)
    assert (done.status, done.out, said in done.err, done.err.count("\n")) == (1, "", True, 1)
    assert broker.ok("alias list") == "a -> q"


def test_an_alias_stands_for_every_queue_operand_and_a_plain_name_for_itself(
    broker: Shell,
) -> None:
    broker.ok("alias add a q")
    broker.ok("alias add b r")
    for line in ("write @a 1", "write @a 2", "write @a 3", "write a literal"):
        broker.ok(line)
    assert broker.ok("peek @a") == "1"
    assert broker.ok("read @a") == "1"
    assert broker.ok("move @a @b") == "2"
    assert broker.ok("stats @a") == "q: 1 (2 total, 1 claimed)"
    assert broker.ok("list") == "a: 1\nq: 1\nr: 1"
    for line in ("exists @a", "delete @b", "rename @a new", "delete a"):
        broker.ok(line)
    assert broker.ok("list") == "new: 1"
    assert broker("write @none x").status == 1


@pytest.mark.parametrize(
    "line",
    [f"{verb} @x" for verb in ("read", "peek", "stats", "exists", "delete", "peek --all")]
    + [f"{verb} {two}" for verb in ("move", "rename") for two in ("@x q", "q @x")],
)
def test_an_alias_that_is_not_defined_is_an_error(broker: Shell, line: str) -> None:
    if not line.startswith(("peek", "move")):
        assert broker(line).status == 1  # also where there is no database
        assert os.listdir(broker.folder) == []
    broker.ok("write q x")
    done = broker(line)
    assert (done.status, "alias '@x' is not defined" in done.err) == (1, True)


def test_an_alias_lives_as_long_as_nobody_removes_it_and_its_messages_longer(
    broker: Shell,
) -> None:
    assert end(broker.start("alias add a q")).status == 0
    assert end(broker.start("write @a x")).status == 0
    broker.ok("read q")
    broker.ok("write @a y")
    broker.ok("delete --all")
    broker.ok("write @a z")
    broker.ok("alias remove a")
    assert broker.bodies() == ["z"]


def test_an_alias_with_the_name_of_a_queue_is_told_of(broker: Shell) -> None:
    broker.ok("write q x")
    done = broker("alias add q other")
    assert (done.status, "queue q holds messages" in done.err) == (0, True)
    broker.ok("alias remove q")
    assert broker("alias add q other -q").err == ""


# ---------------------------------------------------------------------------------------- rename


def test_a_queue_is_renamed_with_its_messages_claims_and_aliases(broker: Shell) -> None:
    broker.ok("alias add a q")
    broker.ok("write q --lines", "held\nhere\nready\n")
    here = broker.ok("claim q").partition("\t")[0]
    held = broker.ok("claim q --hold busy").partition("\t")[0]
    assert broker("rename q new --json").json == [{"queue": "new", "renamed": True}]
    assert broker.ok("list") == "busy: 1\nnew: 2"
    for receipt in (here, held):
        broker.ok(f"nack {receipt} --delay 0s")
    assert sorted(broker.bodies("new")) == ["held", "here", "ready"]
    assert broker.ok("alias list") == "a -> new"
    assert broker("rename q other").status == 2


@pytest.mark.parametrize("before", ["write new y", "read new", "claim new --hold busy"])
def test_a_queue_is_not_renamed_onto_one_that_is_in_use(broker: Shell, before: str) -> None:
    broker.ok("write q x")
    broker.ok("write new z")
    broker.ok(before)
    done = broker("rename q new")
    assert (done.status, "cannot rename 'q' to 'new'" in done.err) == (1, True)
    assert broker.bodies() == ["x"]


def test_a_queue_is_renamed_onto_one_that_was_emptied(broker: Shell) -> None:
    broker.ok("write new x")
    broker.ok("delete new")
    broker.ok("write q y")
    broker.ok("rename q new")
    broker.ok("write q z")
    assert (broker.bodies("new"), broker.bodies("q")) == (["y"], ["z"])


# ------------------------------------------------------------------------------------- broadcast


def test_a_broadcast_reaches_what_holds_a_message_read_ones_included(broker: Shell) -> None:
    broker.ok("alias add a1 a")
    for queue in ("a", "b", "read", "emptied"):
        broker.ok(f"write {queue} x")
    broker.ok("read read")
    broker.ok("delete emptied")
    sent = broker("broadcast - --json", "two\nlines").json
    assert [each["queue"] for each in sent] == ["a", "b", "read"]
    assert [str(each["timestamp"]) for each in sent] == [each["id"] for each in sent]
    assert broker.bodies("read") == ["two\nlines"]
    assert [q.queue for q in broker.store.queues()] == ["a", "b", "read"]
    assert broker.ok("broadcast -p 'a*' hi") == ""
    assert (broker.bodies("a")[-1], broker.bodies("b")[-1]) == ("hi", "two\nlines")
    assert broker("broadcast --pattern 'zz*' hi").status == 2


def test_a_broadcast_without_queues_reaches_nobody_and_makes_nothing(broker: Shell) -> None:
    assert broker("broadcast hi").status == 2
    assert os.listdir(broker.folder) == []


def test_a_broadcast_passes_over_queues_that_holds_and_burials_made(broker: Shell) -> None:
    broker.ok("write q --lines", "a\nb\nc\n")
    receipt = broker.ok("claim q --hold busy").partition("\t")[0]
    broker.ok(f"nack {receipt} --dead")
    receipt = broker.ok("claim q --hold busy").partition("\t")[0]
    broker.ok("broadcast one")
    assert (broker.bodies("busy"), broker.bodies("q.dlq")) == (["b"], ["a"])
    broker.ok("broadcast --pattern '*' two")
    assert (broker.bodies("busy"), broker.bodies("q.dlq")) == (["b", "two"], ["a", "two"])
    broker.ok("write q.dlq mine")  # a producer's queue from now on
    broker.ok("broadcast three")
    assert (broker.bodies("busy")[-1], broker.bodies("q.dlq")[-1]) == ("two", "three")


# -------------------------------------------------------------------------- the whole database


def test_init_makes_the_database_once_and_leaves_it_alone(broker: Shell) -> None:
    [made] = broker("init --json").json
    assert made == {"database": broker.database, "made": True}
    broker.ok("write q kept")
    for line in ("init", "init --force"):
        assert broker(line).status == 0
    assert broker("init --json").json[0]["made"] is False
    assert broker.bodies() == ["kept"]
    assert os.stat(broker.database).st_mode & 0o777 == 0o600


def test_init_takes_no_flags_of_place_and_no_foreign_file(broker: Shell) -> None:
    for line in ("-d . init", "-f x.db init", "init x"):
        assert broker(line).status == 1
    assert os.listdir(broker.folder) == []
    Path(broker.database).write_text("something else entirely")
    assert broker("init").status == 1
    assert Path(broker.database).read_text() == "something else entirely"


def test_init_honours_the_name_in_the_environment(broker: Shell) -> None:
    broker("init", BROKER_DEFAULT_DB_NAME="own.db")
    assert sorted(os.listdir(broker.folder)) == ["own.db", "own.db.lock"]


def test_status_counts_everything(broker: Shell) -> None:
    empty = {"total_messages": 0, "last_timestamp": 0, "db_size": 0}
    assert broker("--status --json").json == [empty]
    ids = broker.ok("write q --lines -t", "a\nb\n").split()
    broker.ok("read q")
    [facts] = broker("--status --json").json
    assert (facts["total_messages"], facts["last_timestamp"]) == (2, int(ids[-1]))
    assert facts["db_size"] > 0
    assert broker.ok("--status").splitlines()[0] == "total_messages: 2"
    broker.ok("delete --all")  # an id is given once, also where its message is gone
    assert broker("--status --json").json[0]["last_timestamp"] == int(ids[-1])


def test_vacuum_removes_what_was_read_and_nothing_else(broker: Shell) -> None:
    assert broker("--vacuum --json").json == [{"vacuumed": 0, "compacted": False}]
    assert os.listdir(broker.folder) == []
    broker.ok("write q --lines", "a\nb\nc\n")
    broker.ok("claim q")
    broker.ok("read q")
    assert broker("--vacuum --json").json == [{"vacuumed": 1, "compacted": False}]
    assert broker.ok("list --stats") == "q: 2"
    assert broker("--vacuum").status == 0


def test_vacuum_gives_the_space_back_where_it_is_asked(broker: Shell) -> None:
    broker.store.write_many("q", ["x" * 10_000] * 300)
    broker.ok("read q --all", BROKER_AUTO_VACUUM="0", BROKER_READ_COMMIT_INTERVAL="100")
    broker.ok("write q kept")
    broker.store.close()
    broker("--vacuum")
    full = os.path.getsize(broker.database)
    assert full > 3_000_000
    assert broker("--vacuum --compact --json").json == [{"vacuumed": 0, "compacted": True}]
    assert os.path.getsize(broker.database) < 200_000
    assert broker.bodies() == ["kept"]


def test_cleanup_leaves_nothing(broker: Shell) -> None:
    assert broker("--cleanup --json").json == [{"database": broker.database, "deleted": False}]
    broker.ok("write q x")
    broker.store.close()
    Path(broker.database + "-journal").touch()
    Path(broker.database + ".default.slots").touch()  # a supervisor was here
    assert broker("--cleanup --json").json[0]["deleted"] is True
    assert os.listdir(broker.folder) == []
    Path(broker.database).touch()
    assert broker("--cleanup --json").json[0]["deleted"] is True
    assert os.listdir(broker.folder) == []


def test_cleanup_refuses_what_is_not_ours(broker: Shell) -> None:
    with sqlite3.connect(broker.database) as db:
        db.execute("create table t(x)")
    db.close()
    before = Path(broker.database).read_bytes()
    assert broker("--cleanup").status == 1
    assert Path(broker.database).read_bytes() == before
    assert os.listdir(broker.folder) == [".broker.db"]


def test_cleanup_ends_a_watch(broker: Shell) -> None:
    broker.ok("write q x")
    watching = broker.start("watch q --peek")
    assert watching.stdout is not None
    assert watching.stdout.readline() == b"x\n"
    assert broker("--cleanup").status == 0
    assert end(watching).status == 1
    assert os.listdir(broker.folder) == []


def test_cleanup_does_not_hurt_those_who_write_at_that_moment(broker: Shell) -> None:
    writers = [broker.start(f"write q {n}") for n in range(4)]
    eventually(lambda: os.path.exists(broker.database))
    assert end(broker.start("--cleanup")).status == 0
    ends = [end(each) for each in writers]
    assert {done.status for done in ends} <= {0, 1}
    assert all("was deleted" in done.err for done in ends if done.status)
    assert broker.ok("write q after") == ""
    assert broker.bodies()[-1] == "after"


def test_cleanup_refuses_while_a_supervisor_lives(tmp_path: Path) -> None:
    site, shell = Site(tmp_path), Shell(tmp_path)
    try:
        site.handlers("def q(message):\n    pass\n")
        site.configure(q={})
        site.start()
        done = shell("--cleanup")
        assert (done.status, "a supervisor serves it" in done.err) == (1, True)
        assert os.path.exists(shell.database)
        site.stop(signal.SIGTERM)
        site.broker.close()
        assert shell("--cleanup").status == 0
        assert [name for name in os.listdir(tmp_path) if name.startswith(".broker")] == []
    finally:
        site.close()
        shell.close()


@pytest.mark.parametrize(
    "line",
    ["--vacuum list", "--status --vacuum", "--cleanup write q x", "--compact list", "--json"],
)
def test_these_stand_alone(broker: Shell, line: str) -> None:
    broker.ok("write q x")
    done = broker(line)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert broker.bodies() == ["x"]


def test_a_vacuum_beside_a_claim_and_a_waiting_reader_hurts_neither(broker: Shell) -> None:
    broker.ok("write q x")
    broker.ok("claim q")
    waiting = broker.start("read other --wait 20s")
    eventually(lambda: sleeps(waiting.pid))
    assert broker("--vacuum --compact").status == 0
    broker.ok("write other y")
    assert end(waiting).out == "y\n"
    assert broker.one().state is State.LEASED
