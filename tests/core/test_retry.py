"""What becomes of a claim."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerrun.core.model import Held, Settlement
from brokerrun.core.retry import Backoff, Ended, Outcome, RetryPolicy, acknowledge, release
from brokerrun.core.states import Event

POLICY = RetryPolicy(
    max_attempts=4, crashes=2, backoff=Backoff(least=1, most=600), dead_letter="dead"
)
NO_DEAD_LETTER = RetryPolicy(max_attempts=4, crashes=2)
RETRY, RELEASE, BURY, ACK = Event.RETRY, Event.RELEASE, Event.BURY, Event.ACK
FAILED, TIMEOUT, DIED, LOST = Outcome.FAILED, Outcome.TIMEOUT, Outcome.DIED, Outcome.LOST


def held(attempts: int = 1, crashes: int = 0) -> Held:
    return Held(id=11, queue="q", owner=5, receipt=99, attempts=attempts, crashes=crashes)


# outcome, attempts, crashes so far, wished delay, alone -> event, delay (draw 0.5), crashes, died
TABLE = [
    # a raised error backs off, and is buried when the attempts are used up
    (FAILED, 1, 0, None, True, RETRY, 1.5, 0, 0),
    (FAILED, 2, 0, None, True, RETRY, 2.5, 0, 0),
    (FAILED, 3, 1, None, True, RETRY, 4.5, 0, 0),
    (FAILED, 4, 0, None, True, BURY, 0, 0, 1),
    (FAILED, 5, 0, None, True, BURY, 0, 0, 1),
    # a timeout is an attempt and no crash
    (TIMEOUT, 1, 1, None, True, RETRY, 1.5, 0, 0),
    (TIMEOUT, 3, 1, None, True, RETRY, 4.5, 0, 0),
    (TIMEOUT, 4, 0, None, True, BURY, 0, 0, 1),
    # the first death runs again at once, the last allowed one buries
    (DIED, 1, 0, None, True, RETRY, 0, 1, 0),
    (DIED, 3, 0, None, True, RETRY, 0, 1, 0),
    (DIED, 2, 1, None, True, BURY, 0, 0, 1),
    (DIED, 4, 0, None, True, BURY, 0, 0, 1),
    # the supervisor or the machine went down: at once, and not a crash
    (LOST, 1, 1, None, True, RETRY, 0, 0, 0),
    (LOST, 3, 1, None, True, RETRY, 0, 0, 0),
    (LOST, 4, 0, None, True, BURY, 0, 0, 1),
    # one of several in the claim is never buried for it
    (LOST, 4, 0, None, False, RETRY, 0, 0, 0),
    (LOST, 9, 1, None, False, RETRY, 0, 0, 0),
    (DIED, 4, 1, None, False, RETRY, 8.5, 1, 0),
    # the wishes of a handler
    (Outcome.RETRY, 1, 0, 30.0, True, RETRY, 30, 0, 0),
    (Outcome.RETRY, 1, 0, 0.0, True, RETRY, 0, 0, 0),
    (Outcome.RETRY, 1, 0, None, True, RETRY, 1.5, 0, 0),
    (Outcome.RETRY, 4, 0, 30.0, True, BURY, 0, 0, 1),
    (Outcome.SNOOZE, 1, 0, 60.0, True, RELEASE, 60, 0, 0),
    (Outcome.SNOOZE, 9, 1, 60.0, True, RELEASE, 60, 0, 0),
    (Outcome.SNOOZE, 1, 0, None, True, RELEASE, 0, 0, 0),
    (Outcome.DEAD, 1, 0, None, True, BURY, 0, 0, 1),
    (Outcome.DROP, 1, 0, None, True, ACK, 0, 0, 0),
    (Outcome.DROP, 9, 1, None, True, ACK, 0, 0, 0),
]


@pytest.mark.parametrize(
    ("outcome", "attempts", "crashes", "wish", "alone", "event", "delay", "more", "died"), TABLE
)
def test_every_outcome_has_its_end(
    outcome: Outcome,
    attempts: int,
    crashes: int,
    wish: float | None,
    alone: bool,
    event: Event,
    delay: float,
    more: int,
    died: int,
) -> None:
    ended = Ended(outcome, delay=wish, alone=alone)
    settled = POLICY.settle(held(attempts, crashes), ended, draw=0.5)
    assert (settled.id, settled.receipt) == (11, 99)
    assert (settled.event, settled.delay, settled.crashes) == (event, delay, more)
    assert settled.queue == ("dead" if event is BURY else None)
    assert settled.attempt is not None
    assert (settled.attempt.died, settled.attempt.outcome) == (died, outcome.value)
    assert (settled.attempt.message, settled.attempt.queue) == (11, "q")
    assert settled.attempt.attempt == attempts


@pytest.mark.parametrize(
    ("outcome", "attempts", "crashes"), [(FAILED, 4, 0), (DIED, 1, 1), (Outcome.DEAD, 1, 0)]
)
def test_without_a_dead_letter_queue_it_is_dropped_and_history_says_that_it_died(
    outcome: Outcome, attempts: int, crashes: int
) -> None:
    settled = NO_DEAD_LETTER.settle(held(attempts, crashes), Ended(outcome))
    assert (settled.event, settled.queue) == (ACK, None)
    assert settled.attempt is not None
    assert settled.attempt.died == 1


def test_what_is_known_of_the_end_goes_into_history() -> None:
    ended = Ended(DIED, "E", "trace", 3, 9, 77, "host", 1000, 2000)
    attempt = POLICY.settle(held(), ended).attempt
    assert attempt is not None
    assert (attempt.error, attempt.traceback, attempt.exit_status) == ("E", "trace", 3)
    assert (attempt.signal, attempt.pid, attempt.host) == (9, 77, "host")
    assert (attempt.started_at, attempt.ended_at) == (1000, 2000)


def test_an_ack_and_a_release_leave_no_history() -> None:
    assert acknowledge(11, 99) == Settlement(11, 99, ACK)
    assert release(11, 99) == Settlement(11, 99, RELEASE)


seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
draws = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(least=seconds, more=seconds, attempt=st.integers(1, 10_000), draw=draws)
def test_a_wait_lies_between_its_bounds(
    least: float, more: float, attempt: int, draw: float
) -> None:
    most = least + more
    delay = Backoff(least, most).delay(attempt, draw)
    top = min(most, least * 2.0 ** min(attempt, 60))
    assert least <= delay <= max(top, least) * (1 + 1e-9)
    assert delay <= most * (1 + 1e-9)


@given(attempt=st.integers(1, 10_000), draw=draws)
def test_a_wait_never_shrinks_with_the_attempts(attempt: int, draw: float) -> None:
    backoff = Backoff(1, 600)
    assert backoff.delay(attempt, draw) <= backoff.delay(attempt + 1, draw)


@given(steps=st.lists(seconds, min_size=1, max_size=5), attempt=st.integers(1, 100), draw=draws)
def test_a_list_of_waits_is_kept_and_its_last_one_stays(
    steps: list[float], attempt: int, draw: float
) -> None:
    expected = steps[attempt - 1] if attempt <= len(steps) else steps[-1]
    assert Backoff(steps=tuple(steps)).delay(attempt, draw) == expected


@given(
    outcome=st.sampled_from(list(Outcome)),
    attempts=st.integers(1, 10),
    crashes=st.integers(0, 3),
    alone=st.booleans(),
    draw=st.none() | draws,
)
def test_no_message_runs_more_often_than_it_may(
    outcome: Outcome, attempts: int, crashes: int, alone: bool, draw: float | None
) -> None:
    ended = Ended(outcome, alone=alone)
    settled = POLICY.settle(held(attempts, crashes), ended, draw)
    if alone and settled.event is RETRY:
        assert attempts < 4
        assert crashes + settled.crashes < max(2, crashes + 1)
    if not alone and outcome is not Outcome.DEAD:
        assert settled.event is not BURY
