"""What becomes of what a dead worker held: a table of causes and positions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from brokerrun.core.model import Held, Settlement
from brokerrun.core.retry import Backoff, Outcome, RetryPolicy
from brokerrun.core.states import Event
from brokerrun.supervisor.fate import Cause, Death, fates
from brokerrun.supervisor.slotfile import InHand

POLICY = RetryPolicy(4, 2, Backoff(steps=(9.0,)), dead_letter="q.dlq")
OURS, OTHER = 77, 78
BEFORE, AT, BEHIND, UNKNOWN = 1, 2, 3, 4  # ids; the second of three is in hand
SEEN = InHand(5, 1, 1, OURS, (BEFORE, AT, BEHIND), 0, 0, handled=1, failed=0, pid=9, born=0)
DEATH = Death(Cause.ITSELF, 9, "here", signal=9, reason="worker killed by SIGKILL")
STRUCK = {Cause.ITSELF: Outcome.DIED, Cause.TIMEOUT: Outcome.TIMEOUT, Cause.LOST: Outcome.LOST}


def held(ident: int, receipt: int = OURS, attempts: int = 1, crashes: int = 0) -> Held:
    return Held(ident, "q", 5, receipt, attempts, crashes)


def fate(row: Held, cause: Cause, seen: InHand | None = SEEN) -> Settlement:
    return fates([row], seen, replace(DEATH, cause=cause), POLICY)[0]


def outcome(settlement: Settlement) -> str | None:
    return settlement.attempt.outcome if settlement.attempt else None


@pytest.mark.parametrize("cause", Cause)
def test_what_stands_before_the_message_in_hand_is_done(cause: Cause) -> None:
    settlement = fate(held(BEFORE), cause)
    assert (settlement.event, settlement.receipt, settlement.attempt) == (Event.ACK, OURS, None)


@pytest.mark.parametrize("cause", Cause)
def test_what_stands_behind_it_is_released_unburned(cause: Cause) -> None:
    settlement = fate(held(BEHIND), cause)
    assert (settlement.event, settlement.delay, settlement.attempt) == (Event.RELEASE, 0.0, None)


@pytest.mark.parametrize(("cause", "ident"), list(product(Cause, (BEFORE, AT, BEHIND, UNKNOWN))))
def test_what_carries_another_receipt_was_not_begun(cause: Cause, ident: int) -> None:
    settlement = fate(held(ident, OTHER), cause)
    assert (settlement.event, settlement.receipt, settlement.attempt) == (
        Event.RELEASE,
        OTHER,
        None,
    )


@pytest.mark.parametrize("cause", Cause)
def test_what_the_slot_does_not_name_was_not_begun(cause: Cause) -> None:
    assert fate(held(UNKNOWN), cause).event is Event.RELEASE


@pytest.mark.parametrize("cause", STRUCK)
def test_the_message_in_hand_was_struck(cause: Cause) -> None:
    settlement = fate(held(AT), cause)
    assert (settlement.event, outcome(settlement)) == (Event.RETRY, STRUCK[cause].value)
    assert settlement.attempt is not None
    assert (settlement.attempt.signal, settlement.attempt.error) == (9, DEATH.reason)


def test_a_stop_strikes_nothing() -> None:
    settlement = fate(held(AT), Cause.STOP)
    assert (settlement.event, settlement.attempt) == (Event.RELEASE, None)


@pytest.mark.parametrize(("cause", "crashes"), [(c, int(c is Cause.ITSELF)) for c in STRUCK])
def test_only_a_workers_own_death_counts_as_a_crash(cause: Cause, crashes: int) -> None:
    assert fate(held(AT), cause).crashes == crashes


@pytest.mark.parametrize(
    ("cause", "attempts", "crashes", "event"),
    [
        (Cause.ITSELF, 3, 1, Event.BURY),  # its second crash of two
        (Cause.ITSELF, 4, 0, Event.BURY),  # its last attempt
        (Cause.ITSELF, 3, 0, Event.RETRY),
        (Cause.TIMEOUT, 3, 1, Event.RETRY),  # a timeout is no crash
        (Cause.TIMEOUT, 4, 0, Event.BURY),
        (Cause.LOST, 3, 1, Event.RETRY),
        (Cause.LOST, 4, 0, Event.BURY),
        (Cause.STOP, 4, 2, Event.RELEASE),
    ],
)
def test_the_message_in_hand_is_buried_when_attempts_or_crashes_are_used_up(
    cause: Cause, attempts: int, crashes: int, event: Event
) -> None:
    settlement = fate(held(AT, attempts=attempts, crashes=crashes), cause)
    assert settlement.event is event
    assert settlement.queue == ("q.dlq" if event is Event.BURY else None)


@pytest.mark.parametrize(
    ("cause", "crashes", "delay"),
    [
        (Cause.ITSELF, 0, 0.0),  # one death is no pattern
        (Cause.TIMEOUT, 0, 9.0),
        (Cause.LOST, 0, 0.0),
    ],
)
def test_after_one_death_it_is_ready_at_once_after_a_timeout_it_backs_off(
    cause: Cause, crashes: int, delay: float
) -> None:
    assert fate(held(AT, crashes=crashes), cause).delay == delay


def test_the_second_death_backs_off() -> None:
    policy = POLICY._replace(crashes=5)
    assert fates([held(AT, crashes=1)], SEEN, DEATH, policy)[0].delay == 9.0


@pytest.mark.parametrize("cause", Cause)
def test_without_a_slot_a_message_goes_back_with_its_attempt_counted(cause: Cause) -> None:
    settlement = fate(held(AT), cause, seen=None)
    assert (settlement.event, outcome(settlement), settlement.crashes) == (Event.RETRY, "lost", 0)
    assert settlement.delay == 0.0


def test_without_a_slot_only_a_message_that_was_alone_is_buried() -> None:
    last = [held(ident, attempts=4) for ident in (1, 2)]
    together = fates(last, None, DEATH, POLICY)
    assert [settlement.event for settlement in together] == [Event.RETRY, Event.RETRY]
    alone = fates([held(1, OURS, 4), held(2, OTHER, 4)], None, DEATH, POLICY)
    assert [settlement.event for settlement in alone] == [Event.BURY, Event.BURY]


def test_a_whole_batch_is_settled_by_its_positions() -> None:
    batch = [held(BEHIND), held(AT), held(BEFORE), held(UNKNOWN, OTHER)]
    events = {s.id: s.event for s in fates(batch, SEEN, DEATH, POLICY)}
    assert events == {
        BEFORE: Event.ACK,
        AT: Event.RETRY,
        BEHIND: Event.RELEASE,
        UNKNOWN: Event.RELEASE,
    }


def test_where_nothing_is_in_hand_all_of_the_claim_is_done() -> None:
    done = replace(SEEN, index=3)
    events = [s.event for s in fates([held(1), held(2), held(3)], done, DEATH, POLICY)]
    assert events == [Event.ACK] * 3
