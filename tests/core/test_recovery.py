"""What the dead held is given back, by whoever comes by."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection as Talk

import pytest
from support import Child

from brokerrun.core.broker import Broker
from brokerrun.core.model import Effect, Selection, Settlement, Wanted
from brokerrun.core.owners import guardian_of, new_guardian, worker_owner
from brokerrun.core.recovery import give_back
from brokerrun.core.states import Event


@pytest.fixture
def broker(database: str) -> Iterator[Broker]:
    with Broker(database) as broker:
        yield broker


def holder(database: str, owner: int, *, queue: str = "q", limit: int = 1) -> Child:
    """Start a process that lives as *owner* and holds messages of *queue*."""

    def hold(talk: Talk) -> None:
        store = Broker(database).store
        store.begin_life(owner)
        talk.send(store.work([], Wanted(queue, owner, limit=limit))[1])
        talk.recv()

    return Child(hold)


def alive(database: str, owner: int) -> Child:
    def live(talk: Talk) -> None:
        Broker(database).store.begin_life(owner)
        talk.send("lives")
        talk.recv()

    child = Child(live)
    child.hear()
    return child


def test_what_a_killed_reader_held_is_there_at_once_for_the_next_one(
    broker: Broker, database: str
) -> None:
    broker.write_many("q", ["a", "b", "c"])
    child = holder(database, new_guardian(), limit=2)
    assert len(child.hear()) == 2
    assert [message.body for message in broker.read("q")] == ["c"]
    assert broker.read("q") == []
    child.kill()
    assert [message.body for message in broker.read("q", Selection(limit=None))] == ["a", "b"]


def test_a_move_takes_what_a_killed_reader_held(broker: Broker, database: str) -> None:
    broker.write("q", "a")
    child = holder(database, new_guardian())
    child.hear()
    assert broker.move("q", "to") == []
    child.kill()
    assert [message.body for message in broker.move("q", "to")] == ["a"]


def test_a_stopped_owner_lives(broker: Broker, database: str) -> None:
    broker.write("q", "a")
    child = holder(database, new_guardian())
    child.hear()
    child.kill(signal.SIGSTOP)
    assert not give_back(broker.store)


def test_the_attempt_of_the_dead_stays_counted_and_their_answer_is_late(
    broker: Broker, database: str
) -> None:
    broker.write("q", "a")
    child = holder(database, new_guardian())
    [late] = child.hear()
    child.kill()
    assert give_back(broker.store)
    assert not give_back(broker.store)
    [claim] = broker.store.work([], Wanted("q", new_guardian()))[1]
    assert (claim.attempts, claim.crashes) == (2, 0)
    answer = Settlement(late.id, late.receipt, Event.ACK)
    assert broker.store.work([answer])[0] == [Effect.LOST]


def test_a_dead_worker_is_left_to_its_living_supervisor(broker: Broker, database: str) -> None:
    broker.write("q", "a")
    guardian = new_guardian()
    supervisor = alive(database, guardian)
    worker = holder(database, worker_owner(guardian, 1))
    worker.hear()
    worker.kill()
    assert broker.read("q") == []
    assert [held.attempts for held in broker.store.held()] == [1]
    supervisor.kill()
    assert [message.body for message in broker.read("q")] == ["a"]


def test_a_living_worker_keeps_its_message_though_its_supervisor_is_dead(
    broker: Broker, database: str
) -> None:
    broker.write("q", "a")
    guardian = new_guardian()
    supervisor = alive(database, guardian)
    worker = holder(database, worker_owner(guardian, 1))
    worker.hear()
    supervisor.kill()
    assert broker.read("q") == []
    worker.kill()
    assert len(broker.read("q")) == 1


def test_a_timed_lease_is_not_a_matter_of_life(broker: Broker) -> None:
    broker.write("q", "a")
    broker.store.work([], Wanted("q", new_guardian(), lease=60))
    assert not give_back(broker.store)


def test_workers_know_their_guardian() -> None:
    guardian = new_guardian()
    owners = [worker_owner(guardian, number) for number in range(1, 1000)]
    assert len(set(owners)) == 999
    assert {guardian_of(owner) for owner in owners} == {guardian}
    assert guardian_of(guardian) == guardian
    assert guardian not in owners


@pytest.mark.parametrize("number", [1, 2**22 - 1, 2**22, 2**23, 10**9])
def test_a_worker_number_never_leaves_its_guardian(number: int) -> None:
    guardian = new_guardian()
    assert guardian_of(worker_owner(guardian, number)) == guardian
    assert worker_owner(guardian, number) != guardian


def test_owners_fit_a_signed_64_bit_offset_and_leave_the_first_bytes_free() -> None:
    for _ in range(1000):
        assert 1 << 40 < new_guardian() < 1 << 62
