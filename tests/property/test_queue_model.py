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
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from property.queue_model import Model, Row
from support import Child

from brokerrun import Lease, Queue

NAMES = ("a", "b")
BATCH = 3
CONFIG = {"BROKER_GENERATOR_BATCH_SIZE": BATCH, "BROKER_AUTO_VACUUM": 0}
names = st.sampled_from(NAMES)
handles = st.integers(0, 3)
limits = st.integers(1, 5)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
places = st.floats(0, 1)
guarantees = st.sampled_from(["exactly_once", "at_least_once"])
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

    def finish(self, rows: list[Row]) -> None:
        for row in rows:
            row.state = "done"

    # ----------------------------------------------------------------------------- writes

    @rule(handle=handles, name=names, given=st.lists(bodies, max_size=4), first=st.booleans())
    def write(self, handle: int, name: str, given: list[str], first: bool) -> None:
        priority = -1 if first else 0
        ids = self.ask(handle, name, lambda q: q.write_many(given, priority=priority))
        for body, ident in zip(given, ids, strict=True):
            self.model.write(name, body, priority, ident)

    @rule(handle=handles, name=names)
    def stamp(self, handle: int, name: str) -> None:
        stamp = self.ask(handle, name, lambda q: q.generate_timestamp())
        assert stamp > self.model.newest
        self.model.newest = stamp

    # ------------------------------------------------------------------------------ takes

    @rule(handle=handles, name=names)
    def read_one(self, handle: int, name: str) -> None:
        rows = self.model.ready(name, 1)
        got = self.ask(handle, name, lambda q: q.read(with_timestamps=True))
        assert got == (pairs(rows) or [None])[0]
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

    @rule(handle=handles, name=names, place=places)
    def read_by_id(self, handle: int, name: str, place: float) -> None:
        ident = self.bounds(place)
        rows = [row for row in self.model.ready(name) if row.id == ident]
        got = self.ask(handle, name, lambda q: q.read(message_id=ident))
        assert got == (rows[0].body if rows else None)
        self.finish(rows)

    @rule(handle=handles, name=names, taken=st.integers(1, 8), guarantee=guarantees)
    def read_some(self, handle: int, name: str, taken: int, guarantee: Any) -> None:
        """A generator that is left in the middle: at least once gives its last batch back."""

        def some(queue: Queue) -> list[tuple[str, int]]:
            messages = queue.read_generator(with_timestamps=True, delivery_guarantee=guarantee)
            got = [pair for pair, _ in zip(messages, range(taken), strict=False)]
            messages.close()  # type: ignore[attr-defined]
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

    @rule(handle=handles, name=names, limit=limits, every=st.booleans(), guarantee=guarantees)
    def move(self, handle: int, name: str, limit: int, every: bool, guarantee: Any) -> None:
        target = NAMES[1 - NAMES.index(name)]

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

    @rule(handle=handles, name=names, place=places, unclaimed=st.booleans())
    def move_by_id(self, handle: int, name: str, place: float, unclaimed: bool) -> None:
        target, ident = NAMES[1 - NAMES.index(name)], self.bounds(place)
        states = {"ready"} if unclaimed else {"ready", "done"}
        rows = [
            r for r in self.model.rows if (r.id, r.queue) == (ident, name) and r.state in states
        ]
        got = self.ask(
            handle,
            name,
            lambda q: q.move_one(target, exact_timestamp=ident, require_unclaimed=unclaimed),
        )
        assert got == (rows[0].body if rows else None)
        self.model.move(rows, target)

    @rule(handle=handles, name=names, place=places, every=st.booleans())
    def delete(self, handle: int, name: str, place: float, every: bool) -> None:
        ident = None if every else self.bounds(place)
        rows = [r for r in self.model.rows if r.queue == name and ident in (None, r.id)]
        assert self.ask(handle, name, lambda q: q.delete(message_id=ident)) == bool(rows)
        self.model.delete(rows)

    # ----------------------------------------------------------------------------- leases

    @rule(handle=st.integers(0, 2), name=names, limit=limits)
    def claim(self, handle: int, name: str, limit: int) -> None:
        rows = self.model.claimable(name, limit)
        leases = list(self.ask(handle, name, lambda q: q.claim(limit)))
        assert [(lease.body, lease.id) for lease in leases] == pairs(rows)
        for row, lease in zip(rows, leases, strict=True):
            row.state, row.attempts = "held", row.attempts + 1
            assert lease.attempts == row.attempts
            self.leases.append((row, lease))

    @precondition(lambda self: self.leases)
    @rule(which=places, how=st.sampled_from(["ack", "release", "nack", "dead"]), fork=st.booleans())
    def settle(self, which: float, how: str, fork: bool) -> None:
        row, lease = self.leases.pop(int(which * (len(self.leases) - 1)))
        there = row in self.model.rows
        ask: Callable[[Lease], bool] = {
            "ack": lambda lease: lease.ack(),
            "release": lambda lease: lease.release(),
            "nack": lambda lease: lease.nack(delay=0),
            "dead": lambda lease: lease.dead(),
        }[how]
        assert self.ask(3 if fork else 0, row.queue, lambda _: ask(lease)) == there
        if not there:
            return
        if how == "ack":
            self.model.delete([row])
        elif how == "dead" or (how == "nack" and row.attempts >= 4):
            self.model.move([row], f"{row.queue}.dlq")
        else:
            row.state, row.attempts = "ready", row.attempts - (how == "release")

    # -------------------------------------------------------------------------- every step

    @rule(handle=st.integers(0, 2), name=names)
    def close(self, handle: int, name: str) -> None:
        self.ask(handle, name, lambda q: q.close())

    @rule(handle=handles, name=names)
    def counts(self, handle: int, name: str) -> None:
        stats = self.ask(handle, name, lambda q: q.stats())
        assert (stats.pending, stats.claimed) == self.model.counts(name)
        assert self.ask(handle, name, lambda q: q.exists()) == stats.exists

    @invariant()
    def everybody_sees_the_same(self) -> None:
        for name in NAMES:
            seen = self.handles[1][name].peek_many(1000, with_timestamps=True)
            assert seen == pairs(self.model.seen(name))

    def teardown(self) -> None:
        for handle in self.handles:
            for queue in handle.values():
                queue.close()
        shutil.rmtree(self.folder)


def run(examples: int) -> int:
    """Run that many stories of 50 rules, and return how many questions were asked."""
    global steps
    steps = 0
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Compared,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=checks,
            database=None,
        ),
    )
    return steps


def test_queues_do_what_their_model_does() -> None:
    assert run(15) > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_queues_do_what_their_model_does_for_ten_thousand_steps() -> None:
    asked = 0
    while asked < 10_000:
        asked += run(100)
    print(f"{asked} steps")
