"""The state machine of a worker's place: every cell of its table."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervised import spec_of

from brokerrun.supervisor.roster import Place, Roster
from brokerrun.supervisor.slot import MOVES, Act, Move, Phase, Signal

NOW = 1000.0
# What is still to come once a place was told to stop, however slowly it obeys.
DELIVERED = [Signal.OVERDUE, Signal.EXITED, Signal.SETTLED]
EVERY_SIGNAL = st.lists(st.sampled_from(Signal), max_size=40)


def roster() -> Roster:
    return Roster((spec_of(),), crash_limit=(5, 30.0), crash_backoff=(1.0, 60.0))


def give(roster: Roster, place: Place, signal: Signal) -> None:
    if signal is Signal.SETTLED:
        if place.phase is Phase.SETTLING:
            roster.settled(place, NOW, healthy=False, died=True)
    else:
        roster.signal(place, signal, NOW)


@pytest.mark.parametrize(("phase", "signal"), list(product(Phase, Signal)))
def test_every_signal_in_every_phase(phase: Phase, signal: Signal) -> None:
    places = roster()
    place = places.places[0]
    place.phase, place.deadline = phase, NOW + 7
    move = MOVES.get((phase, signal))
    acts = places.signal(place, signal, NOW)
    assert (place.phase, acts) == (move or Move(phase))
    if move is None:
        assert place.deadline == NOW + 7


def test_every_phase_can_be_reached() -> None:
    reached = {Phase.DOWN}
    while more := {m.to for (at, _), m in MOVES.items() if at in reached} - reached:
        reached |= more
    assert reached == set(Phase)


def test_every_act_is_asked_for_and_every_signal_is_heard_somewhere() -> None:
    assert {act for move in MOVES.values() for act in move.acts} == set(Act)
    assert {signal for _, signal in MOVES} == set(Signal)


def test_only_a_place_that_is_down_or_waiting_starts_a_process() -> None:
    starting = {at for (at, _), move in MOVES.items() if Act.SPAWN in move.acts}
    assert starting == {Phase.DOWN, Phase.WAITING}


def test_a_claim_is_allowed_only_to_who_said_it_is_ready() -> None:
    assert [cell for cell, move in MOVES.items() if Act.GO in move.acts] == [
        (Phase.BOOTING, Signal.READY)
    ]


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.DOWN])
def test_a_stop_in_any_phase_ends_in_down(phase: Phase) -> None:
    places = roster()
    place = places.places[0]
    place.phase = phase
    places.signal(place, Signal.STOP, NOW)
    for signal in DELIVERED:
        give(places, place, signal)
    assert place.phase is Phase.DOWN


@given(EVERY_SIGNAL, EVERY_SIGNAL)
def test_a_stop_after_anything_ends_in_down_whatever_follows(
    before: list[Signal], after: list[Signal]
) -> None:
    places = roster()
    place = places.places[0]
    for signal in [Signal.START, *before, Signal.STOP, *after]:
        # The supervisor starts each place once, and never while it stops.
        if signal is not Signal.START or place.starts == 0:
            give(places, place, signal)
    for signal in DELIVERED:
        give(places, place, signal)
    assert place.phase is Phase.DOWN


@given(EVERY_SIGNAL)
def test_no_process_is_started_beside_one_that_lives(signals: list[Signal]) -> None:
    places = roster()
    place = places.places[0]
    living = 0
    for signal in [Signal.START, *signals]:
        if signal is Signal.EXITED:
            living = 0
        if signal is Signal.SETTLED:
            give(places, place, signal)
            continue
        acts = places.signal(place, signal, NOW)
        living += acts.count(Act.SPAWN)
        assert living <= 1
