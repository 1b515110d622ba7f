"""Queue against a model of it: real files, several handles, and children that were forked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from property.queue_model import Model, Row
from support import Child

from brokerrun import Lease, Message, Queue
from brokerrun.core.ids import now_ns
from brokerrun.core.model import Selection

NAMES = ("a", "b")
QUEUES = (*NAMES, *(f"{name}.dlq" for name in NAMES))
HOUR_NS = 3600 * 10**9
BATCH = 3
CONFIG = {"BROKER_GENERATOR_BATCH_SIZE": BATCH, "BROKER_AUTO_VACUUM": 0}
names = st.sampled_from(NAMES)
handles = st.integers(0, 3)
limits = st.integers(1, 5)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
texts = st.lists(bodies, max_size=8)
places = st.floats(0, 1)
rarely = st.sampled_from([False] * 4 + [True])
guarantees = st.sampled_from(["exactly_once", "at_least_once"])
mostly_held = st.sampled_from(["exactly_once", "at_least_once", "at_least_once"])
SETTLE: dict[str, Callable[[Lease], bool]] = {
    "ack": lambda lease: lease.ack(),
    "release": lambda lease: lease.release(),
    "nack": lambda lease: lease.nack(delay=0),
    "dead": lambda lease: lease.dead(),
}
# By id: the states in which it works, and the question with another queue and the id.
NAMED: dict[str, tuple[set[str], Callable[[Queue, str, int], str | None]]] = {
    "read": ({"ready"}, lambda q, other, ident: q.read(message_id=ident)),
    "move": ({"ready"}, lambda q, other, ident: q.move_one(other, exact_timestamp=ident)),
    "bring back": (
        {"ready", "done"},
        lambda q, other, ident: q.move_one(other, exact_timestamp=ident, require_unclaimed=False),
    ),
}
steps = 0


def pairs(rows: list[Row]) -> list[tuple[str, int]]:
    return [(row.body, row.id) for row in rows]


class Compared(RuleBasedStateMachine):
    """Each rule does one thing to the store and to the model, and compares the answers.

    Handles 0 to 2 are of this process, two of them persistent; 3 is a child that is forked for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model, self.leases = Model(), list[tuple[Row, Lease]]()
        self.handles = [
            {n: Queue(n, self.folder / "q.db", persistent=kind > 0, config=CONFIG) for n in NAMES}
            for kind in range(3)
        ]

    def ask(self, handle: int, name: str, question: Callable[[Queue], Any]) -> Any:
        """Ask a queue of a handle; handle 3 is a forked copy of handle 1."""
        global steps
        steps += 1
        if handle < 3:
            return question(self.handles[handle][name])
        child = Child(lambda talk: talk.send(question(self.handles[1][name])))
        answer = child.hear()
        child.ends_well()
        return answer

    def bounds(self, place: float) -> int:
        """Return an id that splits what there is."""
        ids = sorted(row.id for row in self.model.rows) or [1]
        return ids[min(int(place * len(ids)), len(ids) - 1)]

    def other(self, name: str) -> str:
        return NAMES[1 - NAMES.index(name)]

    def finish(self, rows: list[Row]) -> None:
        for row in rows:
            row.state = "done"

    # ----------------------------------------------------------------------------- writes

    @initialize(
        ahead=st.booleans(),
        given=st.lists(bodies, min_size=3, max_size=8),
        attempts=st.integers(1, 3),
    )
    def begin(self, ahead: bool, given: list[str], attempts: int) -> None:
        """Let something be there, and some of it attempted; let ids count on from a clock that
        was *ahead*."""
        if ahead:
            row = Row(now_ns() + HOUR_NS, NAMES[0], "ahead", 0)
            self.handles[1][NAMES[0]].broker.store.load([Message(row.id, row.body, row.queue)])
            self.model.write(row.queue, row.body, row.priority, row.id)
        for name in NAMES:
            self.write(1, name, given, first=False)
            for _ in range(attempts):
                self.claim(1, name, 1, "nack")

    @rule(handle=handles, name=names, given=texts, first=st.booleans())
    def write(self, handle: int, name: str, given: list[str], first: bool) -> None:
        priority = -1 if first else 0
        ids = self.ask(handle, name, lambda q: q.write_many(given, priority=priority))
        for body, ident in zip(given, ids, strict=True):
            self.model.write(name, body, priority, ident)

    # ------------------------------------------------------------------------------ takes

    @rule(handle=handles, name=names)
    def read_one(self, handle: int, name: str) -> None:
        rows = self.model.ready(name, 1)
        got = self.ask(handle, name, lambda q: q.read(with_timestamps=True))
        assert got == next(iter(pairs(rows)), None)
        self.finish(rows)

    @rule(handle=handles, name=names, limit=limits, place=places, guarantee=guarantees)
    def read_many(self, handle: int, name: str, limit: int, place: float, guarantee: Any) -> None:
        after = self.bounds(place)
        rows = self.model.ready(name, limit, after)
        got = self.ask(
            handle,
            name,
            lambda q: q.read_many(
                limit, with_timestamps=True, after_timestamp=after, delivery_guarantee=guarantee
            ),
        )
        assert got == pairs(rows)
        self.finish(rows)

    @rule(handle=handles, name=names, taken=st.integers(1, 5), guarantee=mostly_held)
    def read_some(self, handle: int, name: str, taken: int, guarantee: Any) -> None:
        """A generator that is left in the middle: at least once gives its last batch back."""

        def some(queue: Queue) -> list[tuple[str, int]]:
            messages = queue.read_generator(with_timestamps=True, delivery_guarantee=guarantee)
            got = [pair for pair, _ in zip(messages, range(taken), strict=False)]
            messages.close()
            return got

        got = self.ask(handle, name, some)
        if guarantee == "exactly_once":
            # zip asks once more before it sees that it has enough
            rows = self.model.ready(name, taken + 1)
            assert got == pairs(rows[:taken])
            self.finish(rows)
            return
        left = taken
        while left >= 0 and (batch := self.model.claimable(name, BATCH)):
            assert got[: len(batch)] == pairs(batch)[: len(got)]
            got = got[len(batch) :]
            if left < len(batch):
                break
            left -= len(batch)
            self.finish(batch)
        assert got == []

    # ------------------------------------------------------------------------------ moves

    @rule(handle=handles, name=names, limit=limits, every=rarely, guarantee=guarantees)
    def move(self, handle: int, name: str, limit: int, every: bool, guarantee: Any) -> None:
        target = self.other(name)

        def go(queue: Queue) -> list[tuple[str, int]]:
            if every:
                moved = queue.move_generator(
                    target, with_timestamps=True, delivery_guarantee=guarantee
                )
                return list(moved)
            return queue.move_many(
                target, limit, with_timestamps=True, delivery_guarantee=guarantee
            )

        rows = self.model.ready(name, None if every else limit)
        assert self.ask(handle, name, go) == pairs(rows)
        self.model.move(rows, target)

    @rule(handle=handles, name=names, place=places, how=st.sampled_from(list(NAMED)))
    def name_one(self, handle: int, name: str, place: float, how: str) -> None:
        """Read, move or bring back the message with an id, which may be anything by now."""
        target, ident = self.other(name), self.bounds(place)
        states, question = NAMED[how]
        rows = [
            r for r in self.model.rows if (r.id, r.queue) == (ident, name) and r.state in states
        ]
        got = self.ask(handle, name, lambda q: question(q, target, ident))
        assert got == (rows[0].body if rows else None)
        if how == "read":
            self.finish(rows)
        else:
            self.model.move(rows, target)

    @rule(handle=handles, name=names, place=places, every=rarely)
    def delete(self, handle: int, name: str, place: float, every: bool) -> None:
        ident = None if every else self.bounds(place)
        rows = [r for r in self.model.rows if r.queue == name and ident in (None, r.id)]
        assert self.ask(handle, name, lambda q: q.delete(message_id=ident)) == bool(rows)
        self.model.delete(rows)

    # ----------------------------------------------------------------------------- leases

    @rule(handle=st.integers(0, 2), name=names, limit=limits, then=st.sampled_from([None, *SETTLE]))
    def claim(self, handle: int, name: str, limit: int, then: str | None) -> None:
        """Claim, and settle the last one at once or leave that to a later rule."""
        rows = self.model.claimable(name, limit)
        leases = list(self.ask(handle, name, lambda q: q.claim(limit)))
        assert [(lease.body, lease.id) for lease in leases] == pairs(rows)
        for row, lease in zip(rows, leases, strict=True):
            row.state, row.attempts = "leased", row.attempts + 1
            assert lease.attempts == row.attempts
            self.leases.append((row, lease))
        if rows and then:
            self.settle(1.0, then, fork=False)

    @precondition(lambda self: self.leases)
    @rule(which=places, how=st.sampled_from(list(SETTLE)), fork=st.booleans())
    def settle(self, which: float, how: str, fork: bool) -> None:
        row, lease = self.leases.pop(int(which * (len(self.leases) - 1)))
        there = row in self.model.rows
        assert self.ask(3 if fork else 0, row.queue, lambda _: SETTLE[how](lease)) == there
        if not there:
            return
        if how == "ack":
            self.model.delete([row])
        elif how == "dead" or (how == "nack" and row.attempts >= 4):
            self.model.move([row], f"{row.queue}.dlq")
        else:
            row.state, row.attempts = "ready", row.attempts - (how == "release")

    # -------------------------------------------------------------------------- every step

    @rule(handle=handles, name=names)
    def facts(self, handle: int, name: str) -> None:
        """Ask what changes nothing but the ids to come, and close the handle before."""

        def question(queue: Queue) -> Any:
            queue.close()
            return queue.stats(), queue.exists(), queue.generate_timestamp()

        stats, exists, stamp = self.ask(handle, name, question)
        assert (stats.pending, stats.claimed) == self.model.counts(name)
        assert exists == stats.exists
        assert stamp > self.model.newest
        self.model.newest = stamp

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        broker = self.handles[1][NAMES[0]].broker
        assert broker.store.newest() == self.model.newest
        for name in QUEUES:
            seen = [
                Row(each.id, name, each.body, each.priority, each.state.name.lower(), each.attempts)
                for each in broker.peek(name, Selection(limit=None))
            ]
            assert seen == self.model.seen(name)

    def teardown(self) -> None:
        for handle in self.handles:
            for queue in handle.values():
                queue.close()
        shutil.rmtree(self.folder)


def run(examples: int, rules: int = 50) -> int:
    """Run that many stories of so many rules, and return how many questions were asked."""
    global steps
    steps = 0
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Compared,
        settings=settings(
            max_examples=examples,
            stateful_step_count=rules,
            deadline=None,
            suppress_health_check=checks,
            database=None,
        ),
    )
    return steps


def test_queues_do_what_their_model_does() -> None:
    assert run(25) > 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_queues_do_what_their_model_does_for_ten_thousand_steps() -> None:
    asked = 0
    while asked < 10_000:
        asked += run(100)
    print(f"{asked} steps")
