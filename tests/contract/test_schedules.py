"""What `brokerrun.core.store` promises of schedules: one tick is one message."""

from __future__ import annotations

from multiprocessing.connection import Connection as Talk

import pytest
from support import Child

from brokerrun.core.backends import open_store
from brokerrun.core.ids import now_ns
from brokerrun.core.model import Claim, Schedule, Selection, Sent, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.retry import acknowledge
from brokerrun.core.states import Event
from brokerrun.core.store import Store

EVERY = Selection(limit=None)
QUEUE, HOLD, DEAD = "q", "q.in-process", "q.dlq"


def bodies(store: Store, queue: str = QUEUE) -> list[str]:
    return [message.body for message in store.look(queue, EVERY)]


def send(store: Store, *ticks: int, queue: str = QUEUE, overlap: bool = True) -> Sent:
    return store.send_ticks("s", ticks, queue, "x", overlap=overlap)


def claim(store: Store, hold: str | None = None) -> Claim:
    [claim] = store.work([], Wanted(QUEUE, owner=new_guardian(), hold=hold))[1]
    return claim


def last_at(store: Store) -> int:
    [schedule] = store.schedules()
    return schedule.last_at


@pytest.fixture(autouse=True)
def begun(store: Store) -> None:
    store.begin_schedule("s", "every 10", 100)


# --------------------------------------------------------------------------------- remembering


def test_a_schedule_that_begins_has_sent_nothing(store: Store) -> None:
    assert store.schedules() == [Schedule("s", 100)]
    assert store.queues() == []


def test_one_that_is_known_goes_on_where_it_was(store: Store) -> None:
    store.begin_schedule("s", "every 10", 500)
    assert last_at(store) == 100


@pytest.mark.parametrize(("at", "expected"), [(500, 500), (50, 100)])
def test_one_whose_ticks_are_decided_otherwise_begins_anew(
    store: Store, at: int, expected: int
) -> None:
    sent = send(store, 100, 101)
    store.set_schedule("s", 100, seen=101)
    store.begin_schedule("s", "every 7", at)
    store.begin_schedule("s", "every 7", 900)
    assert store.schedules() == [Schedule("s", expected, sent.ids[-1], QUEUE)]


def test_schedules_come_by_name(store: Store) -> None:
    store.begin_schedule("b", "every 10", 2)
    store.begin_schedule("a", "every 10", 1)
    assert [schedule.name for schedule in store.schedules()] == ["a", "b", "s"]


def test_an_end_of_ticks_is_set_only_by_who_saw_the_one_before(store: Store) -> None:
    assert store.set_schedule("s", 300, seen=100)
    assert not store.set_schedule("s", 400, seen=100)
    assert store.set_schedule("s", 50, seen=300)
    assert last_at(store) == 50
    assert not store.set_schedule("nobody", 1, seen=0)


# ------------------------------------------------------------------------------------- sending


def test_a_tick_is_one_message_however_often_it_is_sent(store: Store) -> None:
    before = now_ns()
    first = send(store, 110)
    assert [len(first.ids), send(store, 110), send(store, 109)] == [1, Sent(), Sent()]
    assert [message.id for message in store.look(QUEUE, EVERY)] == list(first.ids)
    assert first.ids[0] >= before >> 12 << 12
    assert store.schedules() == [Schedule("s", 110, first.ids[0], QUEUE)]


def test_several_ticks_are_sent_in_order_those_that_are_over_left_out(store: Store) -> None:
    send(store, 110)
    [second, third] = send(store, 100, 110, 120, 130).ids
    assert second < third
    assert store.schedules() == [Schedule("s", 130, third, QUEUE)]
    assert len(bodies(store)) == 3


def test_what_is_not_known_sends_nothing(store: Store) -> None:
    assert store.send_ticks("nobody", [1], QUEUE, "x", overlap=True) == Sent()
    assert bodies(store) == []


def test_ids_follow_what_was_given_before(store: Store) -> None:
    mark = store.stamp()
    [ident] = send(store, 110).ids
    assert ident > mark
    assert store.put(QUEUE, ["y"])[0] > ident


def test_many_who_send_the_same_ticks_send_each_once(store: Store, target: str) -> None:
    def tick(talk: Talk) -> None:
        mine = open_store(target)
        talk.recv()
        for number in range(101, 141):
            # Not all agree on what is due: some send two at once.
            mine.send_ticks("s", range(101, number + 1)[-2:], QUEUE, "x", overlap=True)

    senders = [Child(tick) for _ in range(4)]
    for sender in senders:
        sender.say("go")
    for sender in senders:
        sender.ends_well()
    assert len(bodies(store)) == 40
    assert last_at(store) == 140


# ------------------------------------------------------------------------------------- overlap


def test_without_overlap_nothing_is_sent_while_the_last_one_waits(store: Store) -> None:
    [first] = send(store, 110, overlap=False).ids
    assert send(store, 120, 130, overlap=False) == Sent(waiting=first)
    assert send(store, 130, overlap=False) == Sent()  # somebody else found it waiting
    assert store.schedules() == [Schedule("s", 130, first, QUEUE)]
    assert send(store, 140, overlap=True).ids
    assert len(bodies(store)) == 2


@pytest.mark.parametrize("hold", [None, HOLD])
def test_without_overlap_nothing_is_sent_while_the_last_one_runs_or_waits_to_run_again(
    store: Store, hold: str | None
) -> None:
    [first] = send(store, 110).ids
    held = claim(store, hold)
    assert send(store, 120, overlap=False).waiting == first
    assert store.schedules()[0].queue == QUEUE
    store.work([Settlement(first, held.receipt, Event.RETRY, delay=60)])
    assert send(store, 130, overlap=False).waiting == first


def finish(store: Store) -> None:
    held = claim(store)
    store.work([acknowledge(held.id, held.receipt)])


def bury(store: Store) -> None:
    held = claim(store)
    store.work([Settlement(held.id, held.receipt, Event.BURY, queue=DEAD)])


ENDS = {
    "acknowledged": finish,
    "buried": bury,
    "read": lambda store: store.take(QUEUE, EVERY),
    "deleted": lambda store: store.delete(QUEUE),
    "moved": lambda store: store.move(QUEUE, "elsewhere", EVERY),
}


@pytest.mark.parametrize("end", ENDS)
def test_without_overlap_the_next_is_sent_when_the_last_is_over(store: Store, end: str) -> None:
    send(store, 110)
    ENDS[end](store)
    assert store.schedules()[0].queue != QUEUE
    assert len(send(store, 120, overlap=False).ids) == 1


def test_another_message_in_the_queue_is_no_overlap(store: Store) -> None:
    store.put(QUEUE, ["another"])
    store.begin_schedule("other", "every 10", 100)
    store.send_ticks("other", [110], QUEUE, "other's", overlap=False)
    assert len(send(store, 110, overlap=False).ids) == 1
    assert bodies(store) == ["another", "other's", "x"]
