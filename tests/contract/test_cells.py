"""Every event in every state, through the methods of a store: what STEPS says, or nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product

import pytest

from brokerrun.core.ids import now_ns
from brokerrun.core.model import Claim, Effect, Message, Selection, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import STEPS, Event, State
from brokerrun.core.store import Store

HOME, HOLD, AWAY, DEAD = "home", "home.held", "away", "dead"
CELLS = list(product(State, Event))
MINUTE = 60 * 10**9


@dataclass(frozen=True)
class Brought:
    """A message that has had one attempt, which took its process down."""

    id: int
    receipt: int
    shown_in: str
    attempts: int


@dataclass(frozen=True)
class Facts:
    state: State | None
    queue: str | None = None
    ready_at: int | None = None
    attempts: int | None = None


def claim(
    store: Store, queue: str = HOME, *, lease: float | None = None, hold: str | None = None
) -> Claim | None:
    wanted = Wanted(queue, owner=new_guardian(), lease=lease, hold=hold)
    return next(iter(store.work([], wanted)[1]), None)


def bring(
    store: Store, state: State, *, lease: float | None = None, hold: str | None = None
) -> Brought:
    [ident] = store.put(HOME, ["body"])
    first = claim(store, hold=hold)
    assert first is not None
    crashed = Settlement(ident, first.receipt, Event.RETRY, crashes=1)
    assert store.work([crashed])[0] == [Effect.SETTLED]
    if state is State.LEASED:
        held = claim(store, lease=lease, hold=hold)
        assert held is not None
        return Brought(ident, held.receipt, hold or HOME, held.attempts)
    if state is State.DONE:
        assert store.take(HOME, Selection(id=ident))
    return Brought(ident, first.receipt, HOME, first.attempts)


def fire(store: Store, event: Event, message: Brought, *, by_id: bool = True) -> bool:
    """Fire the event and tell whether the store says that it took effect."""
    one = Selection(id=message.id) if by_id else Selection(limit=None)
    if event is Event.CLAIM:
        held = claim(store, message.shown_in)
        return held is not None
    if event is Event.READ:
        return bool(store.take(message.shown_in, one))
    if event is Event.MOVE:
        return bool(store.move(message.shown_in, AWAY, one))
    if event is Event.DELETE:
        return store.delete(message.shown_in, message.id if by_id else None) == 1
    if event is Event.EXTEND:
        return store.extend(message.id, message.receipt, 120)
    if event is Event.EXPIRE:
        return expire(store, message)
    if event is Event.VACUUM:
        return vacuum(store, message)
    queue = DEAD if event is Event.BURY else None
    settled = Settlement(message.id, message.receipt, event, queue=queue)
    return store.work([settled])[0] == [Effect.SETTLED]


def expire(store: Store, message: Brought) -> bool:
    before = facts(store, message.id)
    store.take("some other queue's taker", Selection())
    return facts(store, message.id) != before


def vacuum(store: Store, message: Brought) -> bool:
    before = facts(store, message.id)
    store.put("filler", ["x"] * 1001)
    store.take("filler", Selection(limit=None))
    for _ in range(3):
        store.upkeep(history_before=0)
    return facts(store, message.id) != before


def facts(store: Store, ident: int) -> Facts:
    for stats in store.queues():
        for message in store.look(stats.queue, Selection(id=ident)):
            return Facts(message.state, message.queue, message.ready_at, message.attempts)
        if stats.queue in (HOME, HOLD) and stats.claimed:
            return Facts(State.DONE, stats.queue)
    return Facts(None)


def crashes(store: Store, ident: int) -> int:
    """Make the message ready if it is not, claim it and read the count."""
    for held in store.held():
        if held.id == ident:
            store.work([Settlement(ident, held.receipt, Event.RELEASE)])
    shown = facts(store, ident)
    assert shown.queue is not None
    held_now = claim(store, shown.queue)
    assert held_now is not None
    assert held_now.id == ident
    return held_now.crashes


def lease_for(event: Event) -> float | None:
    return {Event.EXPIRE: 0.0, Event.EXTEND: 60.0}.get(event)


@pytest.mark.parametrize("hold", [None, HOLD])
@pytest.mark.parametrize(("state", "event"), CELLS)
def test_every_event_in_every_state_does_what_the_table_says(
    store: Store, state: State, event: Event, hold: str | None
) -> None:
    message = bring(store, state, lease=lease_for(event), hold=hold)
    before = facts(store, message.id)
    assert before.state is state
    step = STEPS.get((state, event))
    assert fire(store, event, message) is (step is not None)
    after = facts(store, message.id)
    if step is None:
        assert after == before
    else:
        assert after.state is step.to
        if step.to in (State.READY, State.LEASED):
            assert after.attempts == (0 if step.new_life else message.attempts + step.attempts)


@pytest.mark.parametrize(("state", "event"), [c for c in CELLS if c not in STEPS])
def test_what_the_table_refuses_leaves_the_crashes_and_the_receipt(
    store: Store, state: State, event: Event
) -> None:
    message = bring(store, state)
    fire(store, event, message)
    if state is State.LEASED:
        assert [(held.receipt, held.crashes) for held in store.held()] == [(message.receipt, 1)]
    elif state is State.READY:
        assert crashes(store, message.id) == 1


@pytest.mark.parametrize(("state", "event"), [c for c in STEPS if STEPS[c].to is State.READY])
def test_only_a_new_life_forgets_the_crashes(store: Store, state: State, event: Event) -> None:
    message = bring(store, state, lease=lease_for(event))
    assert fire(store, event, message)
    assert crashes(store, message.id) == (0 if STEPS[state, event].new_life else 1)


@pytest.mark.parametrize("hold", [None, HOLD])
@pytest.mark.parametrize("event", [Event.RETRY, Event.RELEASE, Event.EXPIRE])
def test_what_a_claim_held_elsewhere_returns_home(
    store: Store, event: Event, hold: str | None
) -> None:
    message = bring(store, State.LEASED, lease=lease_for(event), hold=hold)
    assert facts(store, message.id).queue == (hold or HOME)
    assert fire(store, event, message)
    assert facts(store, message.id).queue == HOME


@pytest.mark.parametrize("hold", [None, HOLD])
def test_what_is_buried_out_of_a_hold_has_no_home_but_the_dead_letter_queue(
    store: Store, hold: str | None
) -> None:
    message = bring(store, State.LEASED, hold=hold)
    assert fire(store, Event.BURY, message)
    assert facts(store, message.id) == Facts(State.READY, DEAD, None, 0)
    again = claim(store, DEAD)
    assert again is not None
    assert (again.queue, again.attempts) == (DEAD, 1)
    store.work([Settlement(again.id, again.receipt, Event.RETRY)])
    assert facts(store, message.id).queue == DEAD


@pytest.mark.parametrize("state", [State.READY, State.DONE])
def test_a_move_names_the_new_queue_and_keeps_the_id(store: Store, state: State) -> None:
    message = bring(store, state)
    moved = store.move(HOME, AWAY, Selection(id=message.id))
    assert moved == [Message(message.id, "body", AWAY, State.READY, None, 0, 0)]
    assert facts(store, message.id) == Facts(State.READY, AWAY, None, 0)


def test_a_move_without_an_id_leaves_what_was_read(store: Store) -> None:
    message = bring(store, State.DONE)
    assert not fire(store, Event.MOVE, message, by_id=False)
    assert facts(store, message.id).state is State.DONE


@pytest.mark.parametrize("state", State)
def test_a_queue_is_deleted_with_its_messages_in_any_state(store: Store, state: State) -> None:
    message = bring(store, state)
    store.put(AWAY, ["stays"])
    assert fire(store, Event.DELETE, message, by_id=False)
    assert [stats.queue for stats in store.queues()] == [AWAY]


@pytest.mark.parametrize("state", State)
def test_all_queues_are_deleted_with_their_messages_in_any_state(
    store: Store, state: State
) -> None:
    bring(store, state, hold=HOLD)
    store.put(AWAY, ["goes too"])
    assert store.delete(None) == 2
    assert store.queues() == []


@pytest.mark.parametrize("queue", [HOME, HOLD])
def test_a_message_shown_elsewhere_is_deleted_under_both_names(store: Store, queue: str) -> None:
    message = bring(store, State.LEASED, hold=HOLD)
    assert store.delete(queue, message.id) == 1
    assert facts(store, message.id).state is None


def test_one_message_is_not_deleted_under_another_queues_name(store: Store) -> None:
    message = bring(store, State.READY)
    store.put(AWAY, ["x"])
    assert store.delete(AWAY, message.id) == 0
    assert store.delete("no such queue", message.id) == 0


def test_one_message_is_deleted_alone_where_no_queue_is_named(store: Store) -> None:
    first, second = store.put(HOME, ["first", "second"])
    assert store.delete(None, first) == 1
    assert [message.id for message in store.look(HOME, Selection(limit=None))] == [second]


@pytest.mark.parametrize("event", [Event.RETRY, Event.RELEASE])
def test_a_delay_says_when_the_message_is_ready_again(store: Store, event: Event) -> None:
    message = bring(store, State.LEASED)
    before = now_ns()
    store.work([Settlement(message.id, message.receipt, event, delay=60)])
    shown = facts(store, message.id)
    assert shown.state is State.READY
    assert shown.ready_at is not None
    assert before + MINUTE <= shown.ready_at <= now_ns() + MINUTE
    assert claim(store) is None
    assert store.take(HOME, Selection()) == []
    assert store.take(HOME, Selection(id=message.id)) == []
    assert store.move(HOME, AWAY, Selection(id=message.id)) == []


@pytest.mark.parametrize("lease", [None, 60])
def test_only_a_timed_lease_has_an_end(store: Store, lease: float | None) -> None:
    before = now_ns()
    message = bring(store, State.LEASED, lease=lease)
    ends_at = facts(store, message.id).ready_at
    if lease is None:
        assert ends_at is None
        assert not store.extend(message.id, message.receipt, 120)
    else:
        assert ends_at is not None
        assert before + MINUTE <= ends_at <= now_ns() + MINUTE


def test_an_extended_lease_ends_that_long_from_now(store: Store) -> None:
    message = bring(store, State.LEASED, lease=0.0)
    before = now_ns()
    assert store.extend(message.id, message.receipt, 60)
    ends_at = facts(store, message.id).ready_at
    assert ends_at is not None
    assert before + MINUTE <= ends_at <= now_ns() + MINUTE
    assert not store.extend(message.id, message.receipt + 1, 60)


TAKERS = {
    "read": lambda store: store.take("other", Selection()),
    "move": lambda store: store.move("other", AWAY, Selection()),
    "claim": lambda store: claim(store, "other"),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_every_taker_ends_the_leases_that_are_over(store: Store, taker: str) -> None:
    still = bring(store, State.LEASED, lease=60)
    message = bring(store, State.LEASED, lease=0.0, hold=HOLD)
    TAKERS[taker](store)
    assert facts(store, message.id) == Facts(State.READY, HOME, None, 2)
    assert facts(store, still.id).state is State.LEASED


def test_a_lease_that_is_over_binds_until_a_taker_comes(store: Store) -> None:
    message = bring(store, State.LEASED, lease=0.0)
    settled = Settlement(message.id, message.receipt, Event.ACK)
    assert store.work([settled])[0] == [Effect.SETTLED]


def test_a_lease_of_a_moment_ends_by_itself(store: Store) -> None:
    message = bring(store, State.LEASED, lease=0.05)
    begun = time.monotonic()
    while not (taken := store.take(HOME, Selection())):
        store.wait([HOME], 5)
    assert taken[0].id == message.id
    assert 0.02 < time.monotonic() - begun < 2
