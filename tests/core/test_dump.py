"""What a dump says, and what is taken from one."""

from __future__ import annotations

import io
import json
import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brokerrun.core.broker import Broker
from brokerrun.core.dump import Cargo, dump_lines, read_dump
from brokerrun.core.ids import now_ns
from brokerrun.core.model import Draft, Message, Selection, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import Event
from brokerrun.errors import BrokerrunError, MessageError

ID = 1_700_000_000_000_000_000
LINE: dict[str, Any] = {"queue": "q", "message": "m", "timestamp": ID, "id": str(ID)}
BODIES = [
    "",
    "two\nlines\r\n",
    "quote \" ' \\ {}",
    "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028\u2029",
    "\U0001f600 ü",
    '{"queue": "x"}',
    "x" * 1_000_000,
]


def load(
    target: Broker, *lines: object, most_bytes: int = 10_000, now: int | None = None
) -> tuple[int, int]:
    text = b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines
    )
    cargo = Cargo("f", "line", most_bytes=most_bytes, aliases={}, now=now or now_ns())
    with closing(cargo):
        read_dump(io.BytesIO(text), cargo)
        cargo.deliver(target.store)
        return len(cargo), len(cargo.aliases)


def dumped(broker: Broker) -> list[str]:
    return list(dump_lines(broker))


def facts(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(line) for line in dumped(broker)]


@pytest.fixture
def broker(database: str) -> Broker:
    return Broker(database)


@pytest.fixture
def other(tmp_path: Path) -> Broker:
    return Broker(str(tmp_path / "other.db"))


def test_a_dump_goes_by_queue_priority_and_id_and_ends_with_the_aliases(broker: Broker) -> None:
    broker.store.add_alias("inbox", "a")
    late = broker.write("b", "late", priority=5)
    early = broker.write("b", "early", priority=-5)
    first = broker.write("a", "only")
    assert facts(broker) == [
        {"queue": "a", "message": "only", "timestamp": first, "id": str(first)},
        {"queue": "b", "message": "early", "timestamp": early, "id": str(early), "priority": -5},
        {"queue": "b", "message": "late", "timestamp": late, "id": str(late), "priority": 5},
        {"alias": "inbox", "target": "a"},
    ]


def test_a_delay_is_shown_until_it_is_over(broker: Broker) -> None:
    broker.write("q", "soon", delay=0.01)
    broker.write("q", "later", delay=3600)
    time.sleep(0.02)
    soon, later = facts(broker)
    assert "ready_at" not in soon
    assert later["ready_at"] == pytest.approx(time.time() + 3600, abs=5)


def test_a_claimed_message_is_dumped_as_ready_with_its_attempts(broker: Broker) -> None:
    broker.write("q", "m")
    broker.claim(Wanted("q", new_guardian(), lease=60))
    [line] = facts(broker)
    assert line["attempts"] == 1
    assert "ready_at" not in line
    assert "state" not in line


def test_a_message_that_was_read_is_not_dumped(broker: Broker) -> None:
    broker.write_many("q", ["read", "kept"])
    broker.read("q")
    assert [line["message"] for line in facts(broker)] == ["kept"]


def test_a_dump_ends_although_producers_go_on(broker: Broker) -> None:
    broker.write_many("q", ["1", "2"])
    seen = []
    for line in dump_lines(broker):
        seen.append(json.loads(line)["message"])
        broker.write("q", "new")
    assert seen == ["1", "2"]


def test_a_dump_of_chosen_queues_leaves_the_aliases_out(broker: Broker) -> None:
    broker.store.add_alias("inbox", "a")
    broker.write("a", "yes")
    broker.write("b", "no")
    lines = [json.loads(line) for line in dump_lines(broker, {"a"}.__contains__)]
    assert [line.get("message") for line in lines] == ["yes"]


def test_a_dump_of_what_was_loaded_is_the_same(broker: Broker, other: Broker) -> None:
    broker.write_drafts("odd", [Draft(body) for body in BODIES])
    broker.write_drafts("later", [Draft("x", delay=1000 + random.random()) for _ in range(50)])
    broker.write_drafts("urgent", [Draft("x", priority=n % 3 - 1) for n in range(50)])
    broker.write("tried", "x")
    [claim] = broker.claim(Wanted("tried", new_guardian()))
    broker.store.work([Settlement(claim.id, claim.receipt, Event.RETRY, delay=500.5)])
    broker.store.add_alias("inbox", "odd")
    lines = dumped(broker)
    assert load(other, *(line.encode() for line in lines), most_bytes=2_000_000) == (108, 1)
    assert dumped(other) == lines
    assert [m.body for m in other.read("odd", Selection(limit=None))] == BODIES


def test_a_cargo_greater_than_its_memory_is_stored_whole(broker: Broker) -> None:
    lines = [LINE | {"message": "x" * 9_000, "id": ID + n, "timestamp": ID + n} for n in range(700)]
    assert load(broker, *lines) == (700, 0)
    assert broker.stats("q").pending == 700


def test_new_ids_go_on_behind_the_loaded_ones(broker: Broker) -> None:
    ahead = now_ns() + 3_600 * 10**9
    load(broker, LINE | {"id": str(ahead), "timestamp": ahead})
    assert broker.write("q", "next") > ahead


@pytest.mark.parametrize("keys", [("id",), ("timestamp",), ("id", "timestamp")])
def test_one_of_id_and_timestamp_is_enough(broker: Broker, keys: tuple[str, ...]) -> None:
    load(broker, {"queue": "q", "message": "m"} | {key: LINE[key] for key in keys})
    assert broker.peek("q")[0].id == ID


def test_a_dump_of_simplebroker_8_is_taken(broker: Broker) -> None:
    head = {"backend": "sqlite", "format": "simplebroker-dump", "last_ts": str(ID), "version": 1}
    loaded = load(
        broker,
        head | {"type": "header"},
        {"alias": "inbox", "target": "q", "type": "alias"},
        {"body": "text", "id": str(ID), "queue": "q", "type": "message"},
    )
    assert loaded == (1, 1)
    assert (broker.peek("@inbox")[0].id, broker.peek("q")[0].body) == (ID, "text")


def test_empty_lines_are_passed_over_and_counted(broker: Broker) -> None:
    assert load(broker, b"", LINE, b"  ") == (1, 0)
    with pytest.raises(MessageError, match="line 2 of f"):
        load(broker, b"", b"{")


FAULTS: list[tuple[object, str]] = [
    (b"{bad", "not JSON"),
    (b"\xff\xfe", r"not UTF-8 text \(byte 0\)"),
    (b"[" * 50_000, "recursion"),
    (b"1" * 5_000, "integer string conversion"),
    ([LINE], "not a JSON object"),
    ("text", "not a JSON object"),
    (LINE | {"color": "red"}, "unknown key 'color'"),
    ({"id": str(ID), "message": "m"}, "queue: expected text, got None"),
    ({"id": str(ID), "queue": "q"}, "message: expected text, got None"),
    (LINE | {"queue": 5}, "queue: expected text, got 5"),
    (LINE | {"queue": "no spaces"}, "invalid queue name 'no spaces'"),
    (LINE | {"queue": "@alias"}, "invalid queue name '@alias'"),
    (LINE | {"message": ["m"]}, "message: expected text"),
    (LINE | {"message": "x" * 10_001}, "message of 10001 bytes: at most 10000"),
    (LINE | {"message": "x" * 100_000}, "longer than 68192 bytes"),
    (LINE | {"message": "\ud800"}, "lone surrogate"),
    ({"queue": "q", "message": "m"}, "id: expected the 19 digits .* got nothing"),
    (LINE | {"id": "17"}, "invalid message id '17'"),
    (LINE | {"id": -ID}, "invalid message id"),
    (LINE | {"id": 0.5}, "id: expected the 19 digits .* got 0.5"),
    (LINE | {"id": True}, "id: expected the 19 digits .* got True"),
    (LINE | {"id": None}, "id: expected the 19 digits .* got None"),
    (LINE | {"id": "9" * 19}, "invalid message id"),
    (LINE | {"timestamp": ID + 1}, "differ"),
    (LINE | {"priority": "1"}, "priority: expected a whole number, got '1'"),
    (LINE | {"priority": 2**31}, "priority: expected -2147483647 to 2147483647"),
    (LINE | {"attempts": -1}, "attempts: expected 0 to 2147483647, got -1"),
    (LINE | {"attempts": True}, "attempts: expected a whole number"),
    (LINE | {"ready_at": "soon"}, "ready_at: expected seconds since 1970, got 'soon'"),
    (LINE | {"ready_at": float("nan")}, "ready_at: expected seconds from 1970 to 2262"),
    (LINE | {"ready_at": float("inf")}, "ready_at: expected seconds from 1970 to 2262"),
    (LINE | {"ready_at": -1}, "ready_at: expected seconds from 1970 to 2262"),
    ({"alias": "a"}, "target: expected text, got None"),
    ({"alias": 1, "target": "q"}, "alias: expected text, got 1"),
    ({"alias": "-a", "target": "q"}, "invalid queue name '-a'"),
    ({"alias": "a", "target": "@q"}, "invalid queue name '@q'"),
    ({"alias": "a", "target": "q", "message": "m"}, "unknown key 'message'"),
    ({"type": "header", "format": "simplebroker-dump", "version": 2}, "unknown kind"),
]


@pytest.mark.parametrize(("line", "reason"), FAULTS)
def test_a_wrong_line_is_named_and_nothing_is_made(
    broker: Broker, line: object, reason: str
) -> None:
    good = LINE | {"id": ID + 5, "timestamp": ID + 5}
    with pytest.raises(MessageError, match=rf"line 2 of f: .*{reason}.*: nothing was stored"):
        load(broker, good, line)
    assert not Path(broker.target).exists()


def test_an_id_that_is_more_than_a_day_ahead_is_refused(broker: Broker) -> None:
    day = 86_400 * 10**9
    with pytest.raises(MessageError, match=r"line 1 of f: .*more than a day ahead of the clock"):
        load(broker, LINE, now=ID - day - 1)
    assert load(broker, LINE, now=ID - day) == (1, 0)


def test_an_id_twice_is_refused_and_both_lines_are_named(broker: Broker) -> None:
    again = LINE | {"queue": "other"}
    with pytest.raises(MessageError, match=rf"line 3 of f: message {ID} stands on line 1 already"):
        load(broker, LINE, LINE | {"id": ID + 1, "timestamp": ID + 1}, again)
    assert not Path(broker.target).exists()


@pytest.mark.parametrize("state", ["ready", "read", "claimed"])
def test_an_id_that_is_there_already_is_refused_and_its_line_named(
    broker: Broker, state: str
) -> None:
    ident = broker.write("q", "mine")
    if state == "read":
        broker.read("q")
    if state == "claimed":
        broker.claim(Wanted("q", new_guardian()))
    before = broker.stats("q")
    theirs = LINE | {"id": ident, "timestamp": ident}
    with pytest.raises(MessageError, match=rf"line 2 of f: message {ident} is there already"):
        load(broker, LINE, theirs, {"alias": "inbox", "target": "q"})
    assert (broker.stats("q"), broker.store.aliases()) == (before, [])


def test_an_alias_for_two_queues_is_refused_and_its_line_named(broker: Broker) -> None:
    one, two = {"alias": "a", "target": "q"}, {"alias": "a", "target": "r"}
    with pytest.raises(MessageError, match="line 3 of f: alias 'a' stands for 'q' already"):
        load(broker, one, one, two)
    assert not Path(broker.target).exists()
    load(broker, one)
    with pytest.raises(BrokerrunError, match="alias 'a' stands for another queue already"):
        load(broker, LINE, two)
    assert broker.stats("q").total == 0


def test_an_alias_of_the_store_is_known_before_anything_is_stored() -> None:
    cargo = Cargo("f", "line", most_bytes=9, aliases={"a": "q", "b": "q"}, now=now_ns())
    with closing(cargo):
        cargo.add_alias("a", "q")
        with pytest.raises(ValueError, match="alias 'b' stands for 'q' already"):
            cargo.add_alias("b", "r")


@pytest.mark.parametrize("ident", [5, -ID, 10**19])
def test_an_id_of_another_length_is_refused_wherever_it_comes_from(ident: int) -> None:
    cargo = Cargo("f", "row", most_bytes=9, aliases={}, now=now_ns())
    with closing(cargo), pytest.raises(ValueError, match="invalid message id"):
        cargo.add(Message(ident, "m", "q"), 1)
