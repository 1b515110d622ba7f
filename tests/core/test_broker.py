"""The public verbs: what is checked, and what they pass on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerrun.core.backends import open_store
from brokerrun.core.broker import MAX_MESSAGE_BYTES, MAX_NAME_LENGTH, Broker
from brokerrun.core.model import QueueStats, Selection
from brokerrun.core.queue import Queue
from brokerrun.errors import (
    AliasError,
    MessageError,
    QueueNameError,
    StoreMissing,
    UsageError,
)

EVERY = Selection(limit=None)


@pytest.fixture
def broker(database: str) -> Iterator[Broker]:
    with Broker(database) as broker:
        yield broker


GOOD_NAMES = ["q", "Q", "0", "_", "_a", "a.b", "a-b", "a..b", "a.", "a-", "x" * MAX_NAME_LENGTH]
BAD_NAMES = [
    "",
    " ",
    ".a",
    "-a",
    "a b",
    "a/b",
    "a\n",
    "\na",
    "a\0",
    "ä",
    "a:b",
    "@",
    "@a b",
    "@@a",
    "\u0661",  # a digit, but not of ours
    "x" * (MAX_NAME_LENGTH + 1),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_inside_the_grammar_is_taken(broker: Broker, name: str) -> None:
    broker.write(name, "x")
    assert [stats.queue for stats in broker.queues()] == [name]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_grammar_is_refused_by_every_verb(
    broker: Broker, database: str, name: str
) -> None:
    verbs = [
        lambda: broker.write(name, "x"),
        lambda: broker.write_many(name, []),
        lambda: broker.peek(name),
        lambda: broker.read(name),
        lambda: broker.move(name, "to"),
        lambda: broker.move("q", name),
        lambda: broker.delete(name),
        lambda: broker.stats(name),
        lambda: Queue(name, database),
    ]
    for verb in verbs:
        with pytest.raises(QueueNameError) as refused:
            verb()
        assert len(str(refused.value)) < 250
    assert not Path(database).exists()


def test_the_size_limit_counts_bytes(broker: Broker) -> None:
    broker.write("q", "x" * MAX_MESSAGE_BYTES)
    broker.write("q", "é" * (MAX_MESSAGE_BYTES // 2))
    for body in ("x" * (MAX_MESSAGE_BYTES + 1), "é" * (MAX_MESSAGE_BYTES // 2 + 1)):
        with pytest.raises(MessageError, match=str(MAX_MESSAGE_BYTES)):
            broker.write("q", body)
    assert broker.stats("q").total == 2


def test_what_is_no_text_is_refused_by_its_place(broker: Broker) -> None:
    with pytest.raises(MessageError, match="character 2"):
        broker.write("q", "ab\ud800")


def test_one_bad_body_keeps_all_out(broker: Broker) -> None:
    with pytest.raises(MessageError):
        broker.write_many("q", ["good", "\udfff"])
    assert broker.queues() == []
    assert broker.write_many("q", []) == []


def test_a_queue_is_not_moved_to_itself(broker: Broker) -> None:
    broker.write("q", "x")
    with pytest.raises(UsageError, match="itself"):
        broker.move("q", "q")
    assert broker.stats("q").total == 1


def test_the_verbs_do_what_they_say(broker: Broker) -> None:
    a, b = broker.write_many("q", ["a", "b"])
    assert [message.id for message in broker.peek("q", EVERY)] == [a, b]
    assert broker.stats("q") == QueueStats("q", 2, 0, 2, oldest_at=a)
    assert broker.stats("none") == QueueStats("none", 0, 0, 0)
    assert [message.body for message in broker.read("q")] == ["a"]
    assert [message.queue for message in broker.move("q", "to")] == ["to"]
    assert broker.delete("to", b) == 1
    assert broker.delete("to", b) == 0
    assert broker.delete(None) == 1
    assert broker.history(a) == []


def test_one_message_named_without_its_queue_is_deleted_alone(broker: Broker) -> None:
    a, b = broker.write_many("q", ["a", "b"])
    assert broker.delete(None, a) == 1
    assert [message.id for message in broker.peek("q", EVERY)] == [b]


def test_a_broker_that_may_not_create_makes_nothing(database: str) -> None:
    broker = Broker(database, create=False)
    with pytest.raises(StoreMissing):
        broker.queues()
    assert list(Path(database).parent.iterdir()) == []


def test_an_alias_means_its_queue_for_every_verb_and_a_plain_name_never_does(
    broker: Broker,
) -> None:
    broker.store.add_alias("inbox", "q")
    broker.write("inbox", "literal")
    broker.write("@inbox", "x")
    assert [message.body for message in broker.peek("@inbox")] == ["x"]
    assert broker.stats("@inbox").queue == "q"
    assert [message.queue for message in broker.move("@inbox", "r")] == ["r"]
    assert broker.read("@inbox") == []
    assert broker.delete("inbox") == 1
    with pytest.raises(AliasError, match="@nobody"):
        broker.write("@nobody", "x")


def test_an_unknown_engine_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="oracle"):
        open_store("oracle://x")


@pytest.mark.parametrize("persistent", [False, True])
def test_a_queue_does_what_its_broker_does(database: str, persistent: bool) -> None:
    with Queue("q", database, persistent=persistent) as queue:
        first = queue.write("a")
        queue.write("b")
        assert queue.peek() == "a"
        assert queue.stats().pending == 2
        moved = queue.move("to")
        assert moved is not None
        assert moved["timestamp"] == first
        assert queue.read() == "b"
        assert queue.read() is queue.peek() is None
        assert queue.move("to") is None
        assert queue.delete() is True
        assert queue.delete(message_id=first) is False
        assert str(queue) == "q"
    assert sorted(path.name for path in Path(database).parent.iterdir()) == [
        "queue.db",
        "queue.db.lock",
    ]


def test_a_queue_that_is_not_persistent_leaves_nothing_open(database: str) -> None:
    queue = Queue("q", database)
    queue.write("a")
    assert not Path(database + "-wal").exists()
    assert Queue("q", Path(database)).read() == "a"
