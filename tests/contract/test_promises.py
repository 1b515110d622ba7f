"""What `brokerrun.core.store` promises beside the state machine."""

from __future__ import annotations

import os
import time
from collections import Counter
from multiprocessing.connection import Connection as Talk
from typing import Any

import pytest
from support import Child, eventually, sleeps

from brokerrun.core.backends import open_store
from brokerrun.core.ids import now_ns
from brokerrun.core.model import (
    Attempt,
    Claim,
    Effect,
    FleetEvent,
    Instance,
    QueueStats,
    Selection,
    Settlement,
    Wanted,
)
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import Event, State
from brokerrun.core.store import Store

EVERY = Selection(limit=None)
CLOCK = "brokerrun.core.backends.sqlite.store.now_ns"


def claims(store: Store, queue: str = "q", limit: int = 1, **more: Any) -> list[Claim]:
    return store.work([], Wanted(queue, owner=new_guardian(), limit=limit, **more))[1]


def bodies(store: Store, queue: str = "q") -> list[str]:
    return [message.body for message in store.look(queue, EVERY)]


def ids(store: Store, queue: str = "q") -> list[int]:
    return [message.id for message in store.look(queue, EVERY)]


def failed(claim: Claim, error: str = "ValueError: no", ended_at: int | None = None) -> Attempt:
    return Attempt(claim.id, claim.queue, claim.attempts, "failed", error=error, ended_at=ended_at)


# ------------------------------------------------------------------------------------------- put


def test_what_is_put_is_there_in_order_with_ids_that_grow(store: Store) -> None:
    first = store.put("q", ["a", "b", "c"])
    second = store.put("q", ["d"])
    assert first == sorted(set(first))
    assert second[0] > first[-1]
    assert bodies(store) == ["a", "b", "c", "d"]
    assert ids(store) == first + second


@pytest.mark.parametrize("bad", [None, "lone surrogate \ud800"])
def test_a_put_that_fails_in_the_middle_stores_nothing(store: Store, bad: Any) -> None:
    store.put("q", ["before"])
    with pytest.raises(Exception, match=r"NULL|surrogates"):
        store.put("q", ["good", bad, "good"])
    assert bodies(store) == ["before"]
    store.put("q", ["after"])
    assert bodies(store) == ["before", "after"]


def test_four_writers_share_no_id_and_a_reader_by_id_misses_none(store: Store, target: str) -> None:
    store.put("warm", ["x"])

    def write(talk: Talk) -> None:
        mine = open_store(target)
        talk.recv()
        for number in range(60):
            talk.send(mine.put("q", ["x"] * (1 + number % 3)))

    writers = [Child(write) for _ in range(4)]
    for writer in writers:
        writer.say("go")
    seen: list[int] = []
    while any(writer._reap() is None for writer in writers):
        seen += poll(store, seen)
    seen += poll(store, seen)
    given = [ident for writer in writers for _ in range(60) for ident in writer.hear()]
    assert all(writer.status == 0 for writer in writers)
    assert len(set(given)) == len(given) == 4 * 120
    assert seen == sorted(given)


def poll(store: Store, seen: list[int]) -> list[int]:
    after = seen[-1] if seen else None
    return [message.id for message in store.look("q", Selection(limit=None, after=after))]


# ---------------------------------------------------------------------------------- selections


def test_order_is_by_priority_and_then_by_id(store: Store) -> None:
    for priority in (5, 0, -3, 0, 5):
        store.put("q", [f"{priority}"], priority=priority)
    assert bodies(store) == ["-3", "0", "0", "5", "5"]
    shown = store.look("q", EVERY)
    assert shown == sorted(shown, key=lambda message: (message.priority, message.id))
    assert [claim.body for claim in claims(store, limit=2)] == ["-3", "0"]
    assert [message.body for message in store.move("q", "to", Selection(limit=2))] == ["0", "5"]
    assert [message.body for message in store.take("q", EVERY)] == ["5"]


def test_a_moved_message_keeps_its_place_in_the_order(store: Store) -> None:
    old = store.put("q", ["old"])
    store.put("to", ["new"])
    store.move("q", "to", EVERY)
    assert ids(store, "to")[0] == old[0]


@pytest.mark.parametrize("limit", [0, 1, 2, 5, None])
def test_a_limit_bounds_what_is_selected(store: Store, limit: int | None) -> None:
    store.put("q", ["a", "b"], priority=1)
    store.put("q", ["c", "d"])
    expected = ["c", "d", "a", "b"][:limit]
    assert [message.body for message in store.look("q", Selection(limit=limit))] == expected
    assert [message.body for message in store.take("q", Selection(limit=limit))] == expected


def test_the_bounds_of_a_selection_are_open(store: Store) -> None:
    a, b, c, d = store.put("q", ["a", "b", "c", "d"])
    between = Selection(limit=None, after=a, before=d)
    assert [message.id for message in store.look("q", between)] == [b, c]
    assert [message.id for message in store.move("q", "to", between)] == [b, c]
    assert [message.id for message in store.take("q", Selection(limit=None, after=a))] == [d]


def test_lookers_see_what_is_delayed_and_leased_and_takers_do_not(store: Store) -> None:
    [leased] = store.put("q", ["leased"])
    claims(store)
    [delayed] = store.put("q", ["delayed"], delay=60)
    [ready] = store.put("q", ["ready"])
    shown = {message.id: message.state for message in store.look("q", EVERY)}
    assert shown == {leased: State.LEASED, delayed: State.READY, ready: State.READY}
    assert store.look("q", Selection(id=leased))[0].state is State.LEASED
    assert [message.id for message in store.take("q", EVERY)] == [ready]
    assert store.look("q", Selection(id=ready)) == []


def test_another_queues_message_is_not_found_by_its_id(store: Store) -> None:
    [ident] = store.put("q", ["x"])
    store.put("other", ["y"])
    one = Selection(id=ident)
    assert store.look("other", one) == store.take("other", one) == []
    assert store.move("other", "to", one) == []


# ---------------------------------------------------------------------------------------- delay


def test_a_delayed_message_is_ready_on_time(store: Store) -> None:
    begun = time.monotonic()
    store.put("q", ["later"], delay=0.2)
    assert store.take("q", EVERY) == claims(store) == []
    while not (taken := claims(store)):
        store.wait(["q"], 5)
    assert taken[0].body == "later"
    assert 0.2 <= time.monotonic() - begun < 1.5


def test_a_delayed_message_goes_where_its_priority_and_id_put_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("q", ["delayed"], delay=60)
    store.put("q", ["ready"])
    assert [message.body for message in store.look("q", EVERY)] == ["delayed", "ready"]
    later = now_ns() + 61 * 10**9
    monkeypatch.setattr(CLOCK, lambda: later)
    assert [message.body for message in store.take("q", EVERY)] == ["delayed", "ready"]


# ---------------------------------------------------------------------------------------- claims


def test_four_claimers_never_hold_the_same_message(store: Store, target: str) -> None:
    given = [ident for n in range(10) for ident in store.put("q", [f"{n}"] * 40)]

    def work(talk: Talk) -> None:
        mine, owner = open_store(target), new_guardian()
        settlements: list[Settlement] = []
        talk.recv()
        while True:
            _, held = mine.work(settlements, Wanted("q", owner, limit=3), late=True)
            if not held:
                return
            talk.send([claim.id for claim in held])
            settlements = [Settlement(claim.id, claim.receipt, Event.ACK) for claim in held]

    workers = [Child(work) for _ in range(4)]
    for worker in workers:
        worker.say("go")
    counted: Counter[int] = Counter()
    for worker in workers:
        worker.ends_well()
        while worker._talk.poll():
            try:
                counted.update(worker.hear())
            except EOFError:
                break
    assert counted == Counter(given)
    assert store.queues() == []


def test_a_message_that_was_attempted_is_claimed_alone(store: Store) -> None:
    store.put("q", ["a", "b", "c", "d"])
    first, second, *_ = claims(store, limit=2)
    store.work([Settlement(second.id, second.receipt, Event.RETRY)])
    store.work([Settlement(first.id, first.receipt, Event.RELEASE)])
    assert [claim.body for claim in claims(store, limit=10)] == ["a"]
    assert [claim.body for claim in claims(store, limit=10)] == ["b"]
    assert [claim.body for claim in claims(store, limit=10)] == ["c", "d"]


def test_a_claim_says_what_is_known_of_the_message(store: Store) -> None:
    [ident] = store.put("q", ["x"])
    [claim] = claims(store)
    assert (claim.id, claim.body, claim.queue, claim.attempts) == (ident, "x", "q", 1)
    assert (claim.crashes, claim.last_error) == (0, None)
    again = Settlement(ident, claim.receipt, Event.RETRY, crashes=1, attempt=failed(claim))
    store.work([again])
    [claim] = claims(store)
    assert (claim.attempts, claim.crashes, claim.last_error) == (2, 1, "ValueError: no")


def test_a_claim_that_is_held_elsewhere_is_shown_there_and_names_its_home(store: Store) -> None:
    store.put("q", ["x", "y"])
    claim, _ = claims(store, limit=2, hold="q.held")
    assert claim.queue == "q"
    assert bodies(store) == []
    assert bodies(store, "q.held") == ["x", "y"]
    assert {held.queue for held in store.held()} == {"q"}
    store.work([Settlement(claim.id, claim.receipt, Event.RETRY)])
    assert (bodies(store), bodies(store, "q.held")) == (["x"], ["y"])


def test_a_claim_from_a_queue_that_never_was_is_empty(store: Store) -> None:
    assert claims(store, "never") == []
    assert store.look("never", EVERY) == store.take("never", EVERY) == []
    assert store.move("never", "to", EVERY) == []
    assert store.queues() == []


# -------------------------------------------------------------------------------- late answers


@pytest.mark.parametrize("event", [Event.ACK, Event.RETRY, Event.RELEASE, Event.BURY])
def test_a_late_answer_touches_nothing_and_leaves_no_history(store: Store, event: Event) -> None:
    store.put("q", ["x"])
    [late] = claims(store)
    store.work([Settlement(late.id, late.receipt, Event.RETRY)])
    [current] = claims(store)
    answer = Settlement(
        late.id, late.receipt, event, delay=9, queue="dead", crashes=1, attempt=failed(late)
    )
    assert store.work([answer])[0] == [Effect.LOST]
    [held] = store.held()
    assert (held.receipt, held.attempts, held.crashes) == (current.receipt, 2, 0)
    assert store.history(late.id) == []
    assert not store.extend(late.id, late.receipt, 60)


@pytest.mark.parametrize("event", [Event.ACK, Event.RETRY, Event.RELEASE, Event.BURY])
def test_an_answer_for_a_message_ended_by_hand_says_so(store: Store, event: Event) -> None:
    store.put("q", ["x"])
    [claim] = claims(store)
    assert store.delete("q", claim.id) == 1
    answer = Settlement(claim.id, claim.receipt, event, queue="dead", attempt=failed(claim))
    assert store.work([answer])[0] == [Effect.GONE]
    assert store.history(claim.id) == []
    assert store.queues() == []


def test_an_answer_counts_once(store: Store) -> None:
    store.put("q", ["x"])
    [claim] = claims(store)
    retry = Settlement(claim.id, claim.receipt, Event.RETRY, crashes=1, attempt=failed(claim))
    assert store.work([retry, retry])[0] == [Effect.SETTLED, Effect.LOST]
    assert len(store.history(claim.id)) == 1


def test_each_settlement_has_an_effect_of_its_own(store: Store) -> None:
    store.put("q", ["a", "b", "c"])
    a, b, c = claims(store, limit=3)
    store.delete("q", b.id)
    settlements = [
        Settlement(a.id, a.receipt, Event.ACK),
        Settlement(b.id, b.receipt, Event.ACK),
        Settlement(c.id, c.receipt + 1, Event.ACK),
    ]
    assert store.work(settlements)[0] == [Effect.SETTLED, Effect.GONE, Effect.LOST]
    assert bodies(store) == ["c"]


def test_what_is_no_answer_settles_nothing(store: Store) -> None:
    store.put("q", ["a", "b"])
    a, b = claims(store, limit=2)
    good = Settlement(a.id, a.receipt, Event.ACK)
    for bad in (Settlement(b.id, b.receipt, Event.CLAIM), Settlement(b.id, b.receipt, Event.BURY)):
        with pytest.raises(ValueError, match="settles nothing"):
            store.work([good, bad])
    assert bodies(store) == ["a", "b"]


def test_settling_and_claiming_happen_together(store: Store) -> None:
    store.put("q", ["a", "b"])
    [a] = claims(store)
    done = [Settlement(a.id, a.receipt, Event.ACK)]
    effects, [b] = store.work(done, Wanted("q", owner=new_guardian()))
    assert effects == [Effect.SETTLED]
    assert b.body == "b"


def test_a_new_receipt_goes_to_those_that_still_carry_the_old_one(store: Store) -> None:
    store.put("q", ["a", "b", "c"])
    a, b, c = claims(store, limit=3)
    assert a.receipt == b.receipt == c.receipt
    store.delete("q", a.id)
    store.work([Settlement(b.id, b.receipt, Event.RELEASE)])
    renewed, ours = store.renew([a.id, b.id, c.id], c.receipt)
    assert ours == {c.id}
    assert renewed != c.receipt
    assert store.work([Settlement(c.id, c.receipt, Event.ACK)])[0] == [Effect.LOST]
    assert store.work([Settlement(c.id, renewed, Event.ACK)])[0] == [Effect.SETTLED]
    assert store.renew([c.id], renewed)[1] == set()


def test_held_lists_what_lasts_as_long_as_its_owner(store: Store) -> None:
    store.put("q", ["a", "b", "c"])
    owner = new_guardian()
    [a] = store.work([], Wanted("q", owner))[1]
    claims(store, lease=60)
    [held] = store.held()
    assert (held.id, held.queue, held.owner, held.receipt) == (a.id, "q", owner, a.receipt)
    assert (held.attempts, held.crashes) == (1, 0)


def test_an_owner_lives_until_its_life_is_ended(store: Store, target: str) -> None:
    owner, other = new_guardian(), open_store(target)
    assert not store.alive(owner)
    store.begin_life(owner)
    assert store.alive(owner)
    assert other.alive(owner)
    store.close()
    assert other.alive(owner)
    store.end_life(owner)
    assert not other.alive(owner)
    other.close()


# --------------------------------------------------------------------------- counts and history


def test_queues_are_counted_by_name(store: Store) -> None:
    first, *_ = store.put("b", ["1", "2", "3", "4"])
    store.put("b", ["5"], delay=60)
    claims(store, "b", hold="hold")
    store.take("b", Selection())
    claims(store, "b")
    [a] = store.put("a", ["x"])
    gone = store.put("gone", ["x"])
    store.delete("gone", gone[0])
    hold, b = store.queues()[2], store.queues()[1]
    assert [stats.queue for stats in store.queues()] == ["a", "b", "hold"]
    assert store.queues()[0] == QueueStats("a", 1, 0, 1, oldest_at=a)
    assert (b.pending, b.claimed, b.total, b.delayed, b.running) == (3, 1, 4, 1, 1)
    assert (b.ready, b.exists, b.oldest_at) == (1, True, first + 2)
    assert (hold.pending, hold.running, hold.oldest_at) == (1, 1, first)


def test_a_queue_of_what_was_read_still_exists(store: Store) -> None:
    store.put("q", ["x"])
    store.take("q", EVERY)
    assert store.queues() == [QueueStats("q", pending=0, claimed=1, total=1)]


def test_unfinished_is_what_runs_or_will_run_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not store.unfinished(["q", "never"])
    store.put("q", ["x"], delay=60)
    assert not store.unfinished(["q"]), "only its producer delayed it"
    store.put("other", ["x"])
    assert store.unfinished(["other"])
    [claim] = claims(store, "other", hold="hold")
    assert store.unfinished(["other"]), "it is held elsewhere, but comes from there"
    assert not store.unfinished(["hold"])
    store.work([Settlement(claim.id, claim.receipt, Event.RETRY, delay=60, attempt=failed(claim))])
    assert store.unfinished(["other"]), "it waits for a further attempt"
    assert not store.unfinished(["q"])
    later = now_ns() + 61 * 10**9
    monkeypatch.setattr(CLOCK, lambda: later)
    assert store.unfinished(["q"]), "it is due, though nobody has looked yet"


def test_those_that_died_are_counted_from_a_mark_on(store: Store) -> None:
    def die(queue: str) -> None:
        [ident] = store.put(queue, ["x"])
        [claim] = claims(store, queue)
        died = Attempt(ident, queue, 1, "dead", died=1)
        store.work([Settlement(ident, claim.receipt, Event.BURY, queue="dead", attempt=died)])

    assert store.last_attempt() == 0
    die("a")
    mark = store.last_attempt()
    assert store.died_since(mark, ["a", "b"]) == 0
    die("a")
    die("b")
    assert store.died_since(mark, ["a"]) == 1
    assert store.died_since(mark, ["a", "b", "never"]) == 2
    assert store.died_since(0, ["a"]) == 2


def test_history_is_kept_as_it_was_told_oldest_first(store: Store) -> None:
    [ident] = store.put("q", ["x"])
    told = [
        Attempt(ident, "q", 1, "failed", 0, "E: 1", "trace\n", 3, None, 7, "host", 10, 20),
        Attempt(ident, "q", 2, "died", 1, "E: 2", None, None, 9, 8, "host", 30, 40),
    ]
    for attempt in told:
        [claim] = claims(store)
        store.work([Settlement(ident, claim.receipt, Event.RETRY, attempt=attempt)])
    assert store.history(ident) == told
    assert store.history(ident + 1) == []


def test_history_keeps_the_newest_hundred_attempts_of_a_message(store: Store) -> None:
    [ident] = store.put("q", ["x"])
    [other] = store.put("other", ["x"])
    [claim] = claims(store, "other")
    store.work([Settlement(other, claim.receipt, Event.RETRY, attempt=failed(claim))])
    for _ in range(103):
        [claim] = claims(store)
        store.work(
            [Settlement(ident, claim.receipt, Event.RETRY, attempt=failed(claim))], late=True
        )
    assert [attempt.attempt for attempt in store.history(ident)] == list(range(4, 104))
    assert len(store.history(other)) == 1


def test_history_outlives_its_message(store: Store) -> None:
    store.put("q", ["x"])
    [claim] = claims(store)
    store.work([Settlement(claim.id, claim.receipt, Event.ACK, attempt=failed(claim))])
    assert len(store.history(claim.id)) == 1


def test_an_instance_is_written_over_that_of_the_same_name_and_host(store: Store) -> None:
    assert store.instance("default", "host") is None
    first = Instance("default", "host", new_guardian(), 7, "/run/x", "0.1.0", 10)
    other = Instance("default", "elsewhere", new_guardian(), 8, "/run/y", "0.1.0", 10)
    second = Instance("default", "host", new_guardian(), 9, "/run/x", "0.1.1", 20, 30)
    for instance in (first, other, second):
        store.put_instance(instance)
    assert store.instance("default", "host") == second
    assert store.instance("default", "elsewhere") == other
    assert store.instances() == [other, second]


def events_of(at: int, count: int) -> list[FleetEvent]:
    return [FleetEvent(at, "default", "host", "worker_died", f'{{"n": {n}}}') for n in range(count)]


def test_events_are_told_oldest_first_and_from_where_one_stood(store: Store) -> None:
    assert store.events(10) == []
    store.add_events(events_of(10, 5))
    found = store.events(3)
    assert [event.facts for event in found] == [f'{{"n": {n}}}' for n in (2, 3, 4)]
    store.add_events(events_of(11, 1))
    (last,) = store.events(10, after=found[-1].id)
    assert last == FleetEvent(11, "default", "host", "worker_died", '{"n": 0}', last.id)
    assert [event.id for event in store.events(2, after=0)] == [1, 2]


def test_the_newest_ten_thousand_events_are_kept(store: Store) -> None:
    for at in range(11):
        store.add_events(events_of(at, 1_000))
    found = store.events(20_000)
    assert (len(found), found[0].at, found[-1].at) == (10_000, 1, 10)


def test_what_was_said_last_of_a_paused_worker_is_remembered(store: Store) -> None:
    assert store.pauses("default", "host") == {}
    store.put_pauses("default", "host", {"a": True, "b": True})
    store.put_pauses("default", "host", {"b": False})
    store.put_pauses("other", "host", {"a": False})
    store.put_pauses("default", "elsewhere", {"c": True})
    assert store.pauses("default", "host") == {"a": True, "b": False}


# ---------------------------------------------------------------------------------------- upkeep


def test_upkeep_forgets_old_events_and_leaves_the_young(store: Store) -> None:
    store.add_events([*events_of(10, 2), *events_of(30, 2)])
    store.upkeep(history_before=20)
    assert [event.at for event in store.events(10)] == [30, 30]


def test_upkeep_forgets_old_history_and_leaves_the_young(store: Store) -> None:
    store.put("q", ["x"])
    for ended_at in (10, 20, 30):
        [claim] = claims(store)
        attempt = failed(claim, ended_at=ended_at)
        store.work([Settlement(claim.id, claim.receipt, Event.RETRY, attempt=attempt)])
    store.upkeep(history_before=20)
    assert [attempt.ended_at for attempt in store.history(claim.id)] == [20, 30]


def test_upkeep_vacuums_what_was_read_where_there_is_much_of_it(store: Store) -> None:
    store.put("q", ["x"] * 1500)
    store.put("q", ["stays"])
    store.take("q", Selection(limit=1500))
    for _ in range(3):
        store.upkeep(history_before=0)
    assert store.queues()[0].claimed <= 1000
    assert bodies(store) == ["stays"]


# --------------------------------------------------------------------------------- ids for ever


def end_by_delete(store: Store, ident: int) -> None:
    store.delete("q", ident)


def end_all(store: Store, ident: int) -> None:
    store.delete(None)


def end_the_queue(store: Store, ident: int) -> None:
    store.delete("q")


def end_by_ack(store: Store, ident: int) -> None:
    [claim] = claims(store)
    store.work([Settlement(ident, claim.receipt, Event.ACK)])


def end_by_vacuum(store: Store, ident: int) -> None:
    store.take("q", EVERY)
    store.vacuum()
    assert "q" not in [stats.queue for stats in store.queues()]


@pytest.mark.parametrize("end", [end_by_delete, end_all, end_the_queue, end_by_ack, end_by_vacuum])
def test_no_id_is_given_again_though_the_newest_goes_and_the_clock_is_set_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    store.put("q", ["x"])
    store.delete("q")
    [newest] = store.put("q", ["x"])
    end(store, newest)
    monkeypatch.setattr(CLOCK, lambda: now_ns() - 3600 * 10**9)
    [after] = store.put("q", ["y"])
    assert after > newest
    assert store.put("q", ["z"])[0] > after


def test_a_clock_set_back_refuses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given = store.put("q", ["x"])
    for back in (1, 10**9, 10**18):
        monkeypatch.setattr(CLOCK, lambda back=back: now_ns() - back)
        given += store.put("q", ["x", "y"])
    assert given == sorted(set(given))
    assert ids(store) == given


# ------------------------------------------------------------------------------------------ wait


def test_wait_returns_at_once_where_something_is_ready(store: Store) -> None:
    store.put("q", ["x"])
    begun = time.monotonic()
    store.wait(["other", "q"], 30)
    assert time.monotonic() - begun < 1


def test_wait_ends_at_its_timeout(store: Store) -> None:
    store.put("other", ["x"])
    begun = time.monotonic()
    store.wait(["q"], 0.15)
    assert 0.14 <= time.monotonic() - begun < 1


def test_wait_ends_where_a_descriptor_can_be_read(store: Store) -> None:
    ours, theirs = os.pipe()
    parent = os.getpid()

    def write(talk: Talk) -> None:
        eventually(lambda: sleeps(parent))
        os.write(theirs, b"x")

    store.put("other", ["x"])
    child = Child(write)
    begun = time.monotonic()
    store.wait(["q"], 30, [ours])
    assert time.monotonic() - begun < 5
    child.ends_well()
    os.close(ours)
    os.close(theirs)


def test_wait_ends_when_a_delayed_message_is_due(store: Store) -> None:
    begun = time.monotonic()
    store.put("q", ["x"], delay=0.2)
    store.wait(["q"], 30)
    assert 0.19 <= time.monotonic() - begun < 2
    assert claims(store)


def test_wait_ends_when_a_timed_lease_ends(store: Store) -> None:
    store.put("q", ["x"])
    begun = time.monotonic()
    claims(store, lease=0.2)
    store.wait(["q"], 30)
    assert 0.15 <= time.monotonic() - begun < 2
    assert claims(store)


def waking_times(store: Store, target: str, rounds: int) -> list[float]:
    """Measure the seconds from another process's write to the end of our wait."""
    waiter = os.getpid()

    def write(talk: Talk) -> None:
        mine = open_store(target)
        mine.put("other", ["warm"])
        for _ in range(rounds):
            talk.recv()
            eventually(lambda: sleeps(waiter))
            mine.put("q", ["x"])
            talk.send(time.monotonic())

    writer = Child(write)
    found = []
    for _ in range(rounds):
        writer.say("go")
        while not store.take("q", Selection()):
            store.wait(["q"], 10)
        woken = time.monotonic()
        found.append(woken - writer.hear())
    writer.ends_well()
    return found


def test_wait_ends_within_50_ms_of_another_process_write(store: Store, target: str) -> None:
    times = sorted(waking_times(store, target, 9))
    assert times[4] < 0.05, times


def test_who_stands_back_lets_others_go_first(store: Store, target: str) -> None:
    waiter = os.getpid()

    def write(talk: Talk) -> None:
        mine = open_store(target)
        eventually(lambda: sleeps(waiter))
        talk.send(time.monotonic())
        mine.put("q", ["x"])

    store.put("other", ["x"])
    writer = Child(write)
    while not store.ready("q"):
        store.wait(["q"], 10, stand_back=0.2)
    assert 0.2 <= time.monotonic() - writer.hear() < 1
    writer.ends_well()
    begun = time.monotonic()
    store.wait(["q"], 10, stand_back=5)  # nobody is woken where something is there
    assert time.monotonic() - begun < 1


def test_wait_still_hears_after_this_process_has_forked(store: Store, target: str) -> None:
    store.wait(["q"], 0.01)
    Child(lambda talk: None).ends_well()
    store.wait(["q"], 0.01)
    times = sorted(waking_times(store, target, 5))
    assert times[2] < 0.05, times


def test_two_waiters_after_a_fork_both_hear(store: Store, target: str) -> None:
    store.wait(["q"], 0.01)

    def listen(talk: Talk) -> None:
        store.wait(["q"], 0.01)
        talk.send("listens")
        store.wait(["q"], 20)
        talk.send(time.monotonic())

    child = Child(listen)
    assert child.hear() == "listens"
    eventually(lambda: sleeps(child.pid))
    open_store(target).put("q", ["x"])
    begun = time.monotonic()
    store.wait(["q"], 20)
    assert child.hear() - begun < 1


# ---------------------------------------------------------------------------------------- close


def test_a_closed_store_opens_again(store: Store) -> None:
    store.put("q", ["x"])
    store.close()
    store.close()
    assert bodies(store) == ["x"]


@pytest.mark.parametrize(
    "body", ["", "\0", "a\0b", "line\nline\r\n", "snowman ☃ 🐌", "x" * 1_000_000, "\ufeff "]
)
def test_every_text_comes_back_as_it_was(store: Store, body: str) -> None:
    store.put("q", [body])
    assert store.look("q", Selection())[0].body == body
    assert claims(store)[0].body == body
    store.delete(None)
    store.put("q", [body])
    assert store.take("q", Selection())[0].body == body


def test_a_thousand_bodies_are_one_put(store: Store) -> None:
    given = store.put("q", [str(number) for number in range(1000)])
    assert bodies(store) == [str(number) for number in range(1000)]
    assert len(set(given)) == 1000
