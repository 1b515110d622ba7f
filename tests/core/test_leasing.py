"""Leases of the library: claimed in a batch, each settled by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Shell
from support import Child, eventually

from brokerrun import Backoff, Queue, RetryPolicy
from brokerrun.core.states import State


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture(params=[False, True], ids=["each call", "persistent"])
def queue(request: pytest.FixtureRequest, db: Path) -> Iterator[Queue]:
    with Queue("q", db, persistent=request.param) as queue:
        yield queue


def waiting(queue: Queue) -> list[tuple[str, int]]:
    """List what is ready, with the attempts that were counted."""
    with queue.call() as broker:
        found = broker.store.look(queue.name, selection_of_all())
    return [(m.body, m.attempts) for m in found if m.state is State.READY]


def selection_of_all() -> Any:
    from brokerrun.core.model import Selection

    return Selection(limit=None)


# -------------------------------------------------------------------------------- each settled


def test_what_is_acked_is_gone(queue: Queue) -> None:
    ids = queue.write_many(list("abc"))
    with queue.claim(2) as leases:
        assert len(leases) == 2
        for lease, body, ident in zip(leases, "ab", ids, strict=False):
            assert (lease.id, lease.body, lease.queue, lease.attempts) == (ident, body, "q", 1)
            assert lease.ack()
            assert lease.settled
    assert waiting(queue) == [("c", 0)]


def test_a_held_message_is_seen_but_not_taken(queue: Queue) -> None:
    queue.write("a")
    with queue.claim() as leases:
        assert queue.read() is None
        assert queue.claim().__len__() == 0
        assert queue.peek() == "a"
        assert queue.stats().running == 1
        assert next(leases).ack()


def test_it_is_shown_in_the_queue_that_holds_it(queue: Queue, db: Path) -> None:
    queue.write("a")
    with queue.claim(hold="q.in-process") as leases:
        assert Queue("q.in-process", db).peek() == "a"
        assert queue.peek() is None
        assert next(leases).queue == "q"
    assert queue.peek() == "a"


def test_a_nack_waits_and_the_last_one_buries(queue: Queue, db: Path) -> None:
    ident = queue.write("a")
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(steps=(0.01,)), dead_letter="graves")
    for attempt in (1, 2):
        [lease] = eventually(lambda: list(queue.claim(retry=policy)))
        assert lease.attempts == attempt
        assert lease.last_error == (None if attempt == 1 else "it broke")
        assert lease.nack("it broke")
    assert queue.peek() is None
    assert Queue("graves", db).peek(with_timestamps=True) == ("a", ident)
    with queue.call() as broker:
        history = broker.history(ident)
    assert [(row.outcome, row.error, row.died) for row in history] == [
        ("failed", "it broke", 0),
        ("failed", "it broke", 1),
    ]


def test_the_policy_is_four_attempts_and_a_dead_letter_queue(queue: Queue, db: Path) -> None:
    queue.write("a")
    for _ in range(4):
        [lease] = queue.claim()
        assert lease.nack(ValueError("no"), delay=0)
    assert Queue("q.dlq", db).peek() == "a"


def test_a_delay_stands_in_for_the_backoff(queue: Queue) -> None:
    queue.write("a")
    [lease] = queue.claim()
    assert lease.nack(delay=3600)
    assert (queue.read(), queue.stats().delayed) == (None, 1)


def test_dead_buries_at_once_and_says_why(queue: Queue, db: Path) -> None:
    ident = queue.write("a")
    [lease] = queue.claim()
    with pytest.raises(LookupError) as caught:
        {}["no such order"]
    assert lease.dead(caught.value)
    with Queue("q.dlq", db).call() as broker:
        assert broker.peek("q.dlq")[0].id == ident
        [row] = broker.history(ident)
    assert (row.outcome, row.error, row.pid) == ("dead", "KeyError: 'no such order'", os.getpid())
    assert row.traceback is not None
    assert "test_leasing.py" in row.traceback


def test_a_release_counts_no_attempt(queue: Queue) -> None:
    queue.write("a")
    [lease] = queue.claim()
    assert lease.release()
    assert waiting(queue) == [("a", 0)]


def test_a_late_answer_changes_nothing(queue: Queue) -> None:
    queue.write("a")
    [lease] = queue.claim()
    assert queue.delete(message_id=lease.id)
    assert not lease.ack()
    queue.write("b")
    [lease] = queue.claim()
    assert lease.release()
    [other] = queue.claim()
    assert not lease.ack()
    assert not lease.nack()
    assert not lease.dead()
    assert not lease.release()
    assert other.ack()


# ------------------------------------------------------------------------------------ the block


def test_what_was_not_settled_goes_back(queue: Queue) -> None:
    queue.write_many(list("abc"))
    with queue.claim(3) as leases:
        assert next(leases).body == "a"
        assert next(leases).ack()
    assert waiting(queue) == [("a", 1), ("c", 0)], "what was handed out has used its attempt"


def test_an_error_nacks_the_message_in_hand(queue: Queue) -> None:
    a, b, c = queue.write_many(list("abc"))
    policy = RetryPolicy(backoff=Backoff(0, 0))

    def fail() -> None:
        with queue.claim(3, retry=policy) as leases:
            assert [next(leases).id, next(leases).id] == [a, b]
            raise LookupError("b is bad")

    with pytest.raises(LookupError):
        fail()
    assert waiting(queue) == [("a", 1), ("b", 1), ("c", 0)]
    with queue.call() as broker:
        assert [broker.history(each) for each in (a, c)] == [[], []]
        [row] = broker.history(b)
    assert row.error == "LookupError: b is bad"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_shutdown_gives_all_back_unburned(queue: Queue, error: type[BaseException]) -> None:
    queue.write_many(list("ab"))

    def leave() -> None:
        with queue.claim(2) as leases:
            next(leases)
            raise error

    with pytest.raises(error):
        leave()
    assert waiting(queue) == [("a", 0), ("b", 0)]


def test_without_a_block_they_are_held_until_they_are_settled(queue: Queue) -> None:
    queue.write_many(list("ab"))
    first, second = queue.claim(2)
    queue.close()
    assert queue.read() is None, "a closed connection ends no lease"
    assert first.ack()
    assert second.release()
    assert queue.read() == "b"


# ------------------------------------------------------------------------------ lives and leases


def hold(db: Path, lease: float | None) -> Child:
    """Claim two messages in a process, acknowledge the first, and live on."""

    def work(talk: Any) -> None:
        first, second = Queue("q", db).claim(2, lease=lease)
        first.ack()
        talk.send(second.receipt)
        talk.recv()

    child = Child(work)
    child.hear()
    return child


def test_what_a_killed_process_held_is_ready_at_once(queue: Queue, db: Path) -> None:
    queue.write_many(list("ab"))
    child = hold(db, None)
    assert queue.read() is None
    child.kill()
    [lease] = queue.claim()
    assert (lease.body, lease.attempts) == ("b", 2)
    assert lease.ack()


def test_a_timed_lease_outlives_its_process_and_ends(queue: Queue, db: Path) -> None:
    queue.write_many(list("ab"))
    hold(db, 0.4).kill()
    assert queue.read() is None
    assert eventually(queue.read) == "b"


def test_an_extended_lease_ends_later(queue: Queue) -> None:
    queue.write("a")
    [lease] = queue.claim(lease=0.05)
    assert lease.extend(60)
    [untimed] = [*queue.claim(), lease][:1]
    assert untimed is lease
    with queue.call() as broker:
        assert broker.peek("q")[0].state is State.LEASED
    assert lease.ack()
    assert not lease.extend(60)


def test_one_without_a_time_needs_no_extension(queue: Queue) -> None:
    queue.write("a")
    [lease] = queue.claim()
    assert lease.extend(1)
    assert lease.ack()
    assert not lease.extend(1)


def test_a_forked_child_gives_nothing_back(queue: Queue) -> None:
    queue.write_many(list("ab"))
    leases = queue.claim(2)

    def leave(talk: Any) -> None:
        with leases:
            next(leases)
        talk.send(queue.read())

    assert Child(leave).hear() is None, "nothing was given back"
    with leases:
        assert [lease.ack() for lease in leases] == [True, True]


def test_a_child_holds_for_itself_after_its_parent_did(queue: Queue) -> None:
    queue.write_many(list("abc"))
    [mine] = queue.claim()

    def hold_and_die(talk: Any) -> None:
        talk.send([lease.body for lease in queue.claim()])
        talk.recv()

    child = Child(hold_and_die)
    assert child.hear() == ["b"]
    child.kill()
    assert [queue.read(), queue.read(), queue.read()] == ["c", "b", None]
    assert mine.ack()


def test_the_command_line_acks_what_the_library_claimed(queue: Queue, tmp_path: Path) -> None:
    queue.write("a")
    [lease] = queue.claim(lease=60)
    Shell(tmp_path).ok(f"-f {queue.db_path} ack {lease.receipt}")
    assert not lease.ack()
    assert queue.peek() is None
