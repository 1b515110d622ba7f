"""The clocks of the places: time is passed in, acts come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from supervised import spec_of

from brokerrun.supervisor.fate import Cause
from brokerrun.supervisor.roster import LATE_SECONDS, Place, Roster
from brokerrun.supervisor.slot import Act, Phase, Signal

NOW = 1000.0
LEAST, MOST = 1.0, 60.0
LIMIT, WINDOW = 5, 30.0


def one_place(**changes: Any) -> tuple[Roster, Place]:
    roster = Roster((spec_of(**changes),), (LIMIT, WINDOW), (LEAST, MOST))
    return roster, roster.places[0]


def running(**changes: Any) -> tuple[Roster, Place]:
    roster, place = one_place(**changes)
    roster.signal(place, Signal.START, NOW)
    roster.signal(place, Signal.READY, NOW)
    return roster, place


def acts(roster: Roster, now: float) -> list[Act]:
    return [act for _, act in roster.tick(now)]


def die(roster: Roster, place: Place, now: float, *, healthy: bool = False) -> float:
    """Let it be up and die at *now*; return the seconds until its next start."""
    place.phase = Phase.RUNNING
    roster.signal(place, Signal.EXITED, now)
    roster.settled(place, now, healthy=healthy, died=True)
    return place.deadline - now


def test_places_are_numbered_from_one_within_each_worker_and_have_slots_of_their_own() -> None:
    specs = (spec_of(name="a", processes=2), spec_of(name="b"))
    places = Roster(specs, (5, 30.0), (1.0, 60.0)).places
    assert [(place.name, place.index) for place in places] == [("a.1", 0), ("a.2", 1), ("b.1", 2)]


def test_a_process_that_is_not_ready_in_time_is_killed_with_a_stack_dump() -> None:
    roster, place = one_place(boot_timeout=3.0)
    assert roster.signal(place, Signal.START, NOW) == (Act.SPAWN,)
    assert roster.next_deadline() == NOW + 3
    assert acts(roster, NOW + 2.9) == []
    assert acts(roster, NOW + 3) == [Act.DUMP, Act.KILL]
    assert place.cause is Cause.ITSELF


def test_a_process_that_is_ready_has_no_deadline() -> None:
    roster, _ = running()
    assert roster.next_deadline() == float("inf")
    assert acts(roster, NOW + 1e9) == []


def test_a_stop_is_a_term_and_a_kill_when_its_grace_is_over() -> None:
    roster, place = running(grace=10.0)
    assert roster.signal(place, Signal.STOP, NOW) == (Act.TERM,)
    assert acts(roster, NOW + 9.9) == []
    assert acts(roster, NOW + 10) == [Act.KILL]
    assert place.cause is Cause.STOP


def test_a_second_stop_kills_at_once() -> None:
    roster, place = running(grace=10.0)
    roster.signal(place, Signal.STOP, NOW)
    assert roster.signal(place, Signal.STOP, NOW) == (Act.KILL,)
    assert place.cause is Cause.STOP


def test_a_late_message_is_dumped_and_termed_then_killed_a_moment_later() -> None:
    roster, place = running(timeout=2.0)
    assert roster.signal(place, Signal.TIMEOUT, NOW) == (Act.DUMP, Act.TERM)
    assert acts(roster, NOW + LATE_SECONDS / 2) == []
    assert acts(roster, NOW + LATE_SECONDS) == [Act.KILL]
    assert place.cause is Cause.TIMEOUT


def test_a_late_message_stays_late_where_the_fleet_is_stopped_meanwhile() -> None:
    roster, place = running(timeout=2.0)
    roster.signal(place, Signal.TIMEOUT, NOW)
    roster.signal(place, Signal.STOP, NOW)
    assert acts(roster, NOW + LATE_SECONDS) == [Act.KILL]
    assert place.cause is Cause.TIMEOUT


def test_a_kill_that_ended_nothing_is_sent_again() -> None:
    roster, place = running(grace=0.0)
    roster.signal(place, Signal.STOP, NOW)
    assert acts(roster, NOW) == [Act.KILL]
    assert acts(roster, place.deadline) == [Act.KILL]
    assert place.phase is Phase.KILLING


def test_the_next_process_is_not_blamed_for_the_timeout_of_the_last() -> None:
    roster, place = running(timeout=2.0)
    roster.signal(place, Signal.TIMEOUT, NOW)
    die_at = NOW + 1
    roster.signal(place, Signal.EXITED, die_at)
    roster.settled(place, die_at, healthy=True, died=True)
    assert acts(roster, die_at) == [Act.SPAWN]
    assert place.cause is Cause.ITSELF


@pytest.mark.parametrize("deaths", range(1, LIMIT + 1))
def test_within_the_limit_the_next_process_starts_at_once(deaths: int) -> None:
    roster, place = running()
    assert [die(roster, place, NOW + second) for second in range(deaths)] == [0.0] * deaths
    assert not place.looping


def test_beyond_the_limit_the_pause_grows_inside_its_bounds() -> None:
    roster, place = running()
    for _ in range(LIMIT):
        die(roster, place, NOW)
    tops = [LEAST, *(min(MOST, LEAST * 2**n) for n in range(1, 12))]
    for top in tops:
        pause = die(roster, place, NOW)
        assert LEAST <= pause <= top
        assert place.looping


def longest_pause(deaths: int) -> float:
    """Return the longest of many draws after so many deaths beyond the limit."""

    def draw() -> float:
        roster, place = running()
        return [die(roster, place, NOW) for _ in range(LIMIT + deaths)][-1]

    return max(draw() for _ in range(200))


def test_the_pause_is_jittered_and_uses_its_room() -> None:
    assert longest_pause(1) == LEAST
    assert LEAST < longest_pause(2) <= 2 * LEAST
    assert 4 * LEAST < longest_pause(4) <= 8 * LEAST
    assert 30 * LEAST < longest_pause(10) <= MOST


def test_a_worker_that_waits_for_its_next_start_is_started_when_it_is_due() -> None:
    roster, place = running()
    while not (pause := die(roster, place, NOW)):
        pass
    assert acts(roster, NOW + pause - 0.01) == []
    assert acts(roster, NOW + pause) == [Act.SPAWN]


def heals_by_a_message(roster: Roster, place: Place) -> float:
    return die(roster, place, NOW + 1, healthy=True)


def heals_by_time(roster: Roster, place: Place) -> float:
    return die(roster, place, NOW + WINDOW + MOST + 1)


@pytest.mark.parametrize("heals", [heals_by_a_message, heals_by_time])
def test_a_crash_loop_heals(heals: Callable[[Roster, Place], float]) -> None:
    roster, place = running()
    for _ in range(LIMIT + 3):
        die(roster, place, NOW)
    assert place.looping
    assert heals(roster, place) == 0.0
    assert not place.looping


def test_deaths_of_processes_that_settled_a_message_never_start_a_backoff() -> None:
    roster, place = running()
    pauses = [die(roster, place, NOW + n / 100, healthy=True) for n in range(50)]
    assert pauses == [0.0] * 50


def test_deaths_farther_apart_than_the_limit_start_no_backoff() -> None:
    roster, place = running()
    apart = WINDOW / LIMIT + 1
    assert [die(roster, place, NOW + n * apart) for n in range(50)] == [0.0] * 50


def test_a_process_that_ended_because_it_was_told_to_counts_as_no_death() -> None:
    roster, place = running()
    for _ in range(50):
        roster.signal(place, Signal.EXITED, NOW)
        roster.settled(place, NOW, healthy=False, died=False)
        assert place.deadline == NOW
        place.phase = Phase.RUNNING


def test_one_worker_backs_off_and_the_others_never_notice() -> None:
    roster = Roster((spec_of(name="a"), spec_of(name="b")), (LIMIT, WINDOW), (LEAST, MOST))
    sick, well = roster.places
    for place in roster.places:
        roster.signal(place, Signal.START, NOW)
        roster.signal(place, Signal.READY, NOW)
    while not sick.looping:
        die(roster, sick, NOW)
    assert die(roster, well, NOW) == 0.0


def test_who_was_told_to_stop_is_down_after_its_death_and_stays_down() -> None:
    roster, place = running()
    roster.signal(place, Signal.STOP, NOW)
    roster.signal(place, Signal.EXITED, NOW + 1)
    roster.settled(place, NOW + 1, healthy=True, died=False)
    assert place.phase is Phase.DOWN
    assert acts(roster, NOW + 1e9) == []
