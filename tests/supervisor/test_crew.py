"""What a worker's places shall be, and the steps there: no process, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervised import spec_of

from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.slot import Act, Phase, Signal

NOW = 1000.0


class Stage:
    """A roster of one worker whose processes do what they are told, when the test says so."""

    def __init__(self, **changes: Any):
        self.spec = spec_of(**changes)
        self.roster = Roster((self.spec,), (5, 30.0), (1.0, 60.0))
        self.crew: Crew = self.roster.crews["w"]
        self.started: list[Place] = []
        self.told: list[Place] = []

    def step(self) -> None:
        for place, signal in self.roster.steps():
            self.tell(place, signal)

    def tell(self, place: Place, signal: Signal) -> None:
        for act in self.roster.signal(place, signal, NOW):
            if act is Act.SPAWN:
                self.started.append(place)
            elif act is Act.TERM:
                self.told.append(place)
            elif act is Act.KILL:
                self.end(place)

    def ready(self, place: Place) -> None:
        self.tell(place, Signal.READY)

    def end(self, place: Place) -> None:
        self.roster.signal(place, Signal.EXITED, NOW)
        self.roster.settled(place, NOW, healthy=True, died=False)

    def settle(self, rounds: int = 50) -> None:
        """Let every process become ready, or end where it was told to, until nothing changes."""
        for _ in range(rounds):
            self.step()
            for place in list(self.crew.places):
                if place.phase is Phase.BOOTING:
                    self.ready(place)
                elif place.phase is Phase.RETIRING:
                    self.end(place)
                elif place.phase is Phase.WAITING:
                    self.tell(place, Signal.OVERDUE)

    def phases(self) -> list[tuple[int, Phase]]:
        return sorted(((p.number, p.phase) for p in self.crew.places), key=lambda e: e[0])

    def working(self) -> int:
        return sum(place.phase is Phase.RUNNING for place in self.crew.places)


def settled(**changes: Any) -> Stage:
    stage = Stage(**changes)
    stage.settle()
    assert stage.crew.complete
    stage.started.clear()
    return stage


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1), (2, 0), (0, 3), (3, 3)])
def test_scaling_starts_what_is_missing_and_ends_what_is_too_many(first: int, then: int) -> None:
    stage = settled(processes=4)
    stage.crew.wanted = first
    stage.settle()
    kept = [p for p in stage.crew.places if p.number <= min(first, then)]
    stage.started.clear()
    stage.crew.wanted = then
    stage.settle()
    assert stage.phases() == [(n + 1, Phase.RUNNING) for n in range(then)]
    assert all(place in stage.crew.places for place in kept)
    assert len(stage.started) == max(then - first, 0)


def test_who_is_too_many_finishes_what_it_has_in_hand() -> None:
    stage = settled(processes=2)
    stage.crew.wanted = 1
    stage.step()
    assert stage.phases() == [(1, Phase.RUNNING), (2, Phase.RETIRING)]
    assert stage.crew.places[1].deadline == float("inf")
    assert stage.crew.complete  # nobody waits for it


def test_a_slot_is_given_again_only_when_its_place_is_gone() -> None:
    stage = settled(processes=2)
    stage.crew.wanted = 1
    stage.step()
    stage.crew.wanted = 2
    stage.step()
    assert len({place.index for place in stage.crew.places}) == 3
    stage.settle()
    stage.crew.wanted = 3
    stage.step()
    assert sorted(place.index for place in stage.crew.places) == [0, 1, 2]


def test_a_paused_worker_ends_all_and_starts_none_until_it_is_resumed() -> None:
    stage = settled(processes=2)
    stage.crew.paused = True
    stage.step()
    assert not stage.crew.complete  # something may be in hand yet
    stage.settle()
    assert stage.crew.complete
    assert stage.phases() == [(1, Phase.DOWN), (2, Phase.DOWN)]
    assert stage.started == []
    stage.crew.paused = False
    stage.settle()
    assert stage.working() == 2


def test_a_worker_resumed_while_it_finishes_gets_others_at_once() -> None:
    stage = settled(processes=1)
    stage.crew.paused = True
    stage.step()
    stage.crew.paused = False
    stage.step()
    stage.ready(stage.started[0])
    assert stage.phases() == [(1, Phase.RETIRING), (1, Phase.RUNNING)]
    assert stage.crew.complete
    stage.settle()
    assert stage.phases() == [(1, Phase.RUNNING)]


@pytest.mark.parametrize("processes", [1, 4, 8, 16])
def test_a_restart_rolls_with_a_bounded_share_and_never_has_fewer(processes: int) -> None:
    stage = settled(processes=processes)
    old = list(stage.crew.places)
    stage.crew.restart()
    rounds = 0
    while not stage.crew.complete:
        stage.step()
        stage.step()
        booting = [p for p in stage.crew.places if p.phase is Phase.BOOTING]
        assert len(booting) <= max(1, processes // 4)
        assert stage.working() >= processes
        for place in booting:
            stage.ready(place)
        for place in [p for p in stage.crew.places if p.phase is Phase.RETIRING]:
            stage.end(place)
        rounds += 1
        assert rounds < 40
    stage.settle()
    assert not set(map(id, old)) & set(map(id, stage.crew.places))
    assert len(stage.told) == processes  # each was told once


def test_one_process_is_restarted_alone() -> None:
    stage = settled(processes=3)
    first, second, third = stage.crew.places
    stage.crew.restart(2)
    stage.settle()
    assert first in stage.crew.places
    assert third in stage.crew.places
    assert second not in stage.crew.places
    assert len(stage.started) == 1


def test_the_old_one_works_on_while_its_successor_does_not_come_up() -> None:
    stage = settled(processes=1)
    old = stage.crew.places[0]
    stage.crew.restart()
    stage.step()
    heir = stage.started[0]
    for _ in range(10):
        stage.roster.signal(heir, Signal.EXITED, NOW)
        stage.roster.settled(heir, NOW, healthy=False, died=True)
        stage.step()
        stage.tell(heir, Signal.OVERDUE)
        assert old.phase is Phase.RUNNING
        assert not stage.crew.complete


def test_old_ones_that_take_long_to_finish_do_not_pile_up_without_bound() -> None:
    stage = settled(processes=2)
    for _ in range(20):
        stage.crew.restart()
        for _ in range(6):
            stage.step()
            for place in list(stage.crew.places):
                if place.phase is Phase.BOOTING:
                    stage.ready(place)
    assert len(stage.crew.places) <= 2 * 2 + 2


def test_changes_that_come_faster_than_a_process_starts_do_not_stop_the_roll() -> None:
    stage = settled(processes=1)
    for round_ in range(1, 10):
        stage.crew.become(spec_of(max_attempts=2 * round_), "")
        stage.step()
        stage.crew.become(spec_of(max_attempts=2 * round_ + 1), "")
        stage.step()
        stage.ready(stage.started[-1])
        stage.step()
        for place in [p for p in stage.crew.places if p.phase is Phase.RETIRING]:
            stage.end(place)
        assert 2 * round_ in [place.spec.max_attempts for place in stage.crew.places]
    stage.settle()
    assert [place.spec.max_attempts for place in stage.crew.places] == [19]


LIVE = [
    {"timeout": 3.0}, {"grace": 1.0}, {"boot_timeout": 2.0}, {"processes": 7}, {"paused": True},
]  # fmt: skip


@pytest.mark.parametrize("change", LIVE)
def test_a_change_of_a_live_key_replaces_nobody(change: dict[str, Any]) -> None:
    stage = settled(processes=2)
    stage.crew.become(spec_of(**{"processes": 2, **change}), "")
    stage.settle()
    assert stage.started == []
    assert all(place.spec is stage.crew.spec for place in stage.crew.places)


@pytest.mark.parametrize("change", [{"queues": ("x",)}, {"env": {"A": "b"}}, {"prefetch": 2}])
def test_a_change_of_another_key_replaces_all(change: dict[str, Any]) -> None:
    stage = settled(processes=2)
    stage.crew.become(spec_of(**{"processes": 2, **change}), "")
    stage.settle()
    assert len(stage.started) == 2


def test_new_code_replaces_all() -> None:
    stage = settled(processes=2)
    stage.crew.become(stage.spec, "other")
    stage.settle()
    assert len(stage.started) == 2


def test_a_worker_that_left_the_file_ends_and_is_forgotten() -> None:
    stage = settled(processes=2)
    stage.crew.gone = True
    stage.step()
    assert stage.phases() == [(1, Phase.RETIRING), (2, Phase.RETIRING)]
    stage.settle()
    assert stage.roster.crews == {}


def test_what_was_counted_goes_over_to_the_successor() -> None:
    stage = settled(processes=1)
    stage.crew.places[0].handled = 7
    stage.crew.restart()
    stage.settle()
    (place,) = stage.crew.places
    assert (place.handled, place.restarts) == (7, 1)


ORDERS = st.lists(
    st.one_of(
        st.integers(0, 5).map(lambda n: ("scale", n)),
        st.sampled_from([("pause", 1), ("pause", 0), ("restart", 0), ("die", 0), ("die", 2)]),
        st.sampled_from([("ready", 0), ("ready", 1), ("end", 0), ("end", 1), ("become", 3)]),
    ),
    max_size=40,
)


def obey(stage: Stage, verb: str, number: int) -> None:
    """Do one thing that may happen."""
    places = stage.crew.places
    match verb:
        case "scale":
            stage.crew.wanted = number
        case "pause":
            stage.crew.paused = bool(number)
        case "restart":
            stage.crew.restart()
        case "become":
            stage.crew.become(spec_of(max_attempts=len(stage.started) + 1), "")
        case "die":
            for place in [p for p in places if p.alive][number : number + 1]:
                stage.roster.signal(place, Signal.EXITED, NOW)
                stage.roster.settled(place, NOW, healthy=True, died=True)
        case "ready":
            for place in [p for p in places if p.phase is Phase.BOOTING][number : number + 1]:
                stage.ready(place)
        case "end":
            for place in [p for p in places if p.phase is Phase.RETIRING][number : number + 1]:
                stage.end(place)


@given(ORDERS)
def test_whatever_happens_it_comes_to_what_it_shall_be(orders: list[tuple[str, int]]) -> None:
    stage = Stage(processes=2)
    for verb, number in orders:
        stage.step()
        obey(stage, verb, number)
        indexes = [place.index for place in stage.crew.places]
        assert len(indexes) == len(set(indexes))
    stage.settle()
    assert stage.crew.complete
    if not stage.crew.paused:
        assert stage.phases() == [(n + 1, Phase.RUNNING) for n in range(stage.crew.wanted)]
    else:
        assert not [p for p in stage.crew.places if p.alive]
