"""What becomes of a claim: a pure function of its outcome and the policy.

Outcomes are what history calls them: `failed` (raised), `timeout`, `died` (took its process
down), `lost` (the supervisor or the machine went down), `cancelled` (by an operator), and the
wishes of a handler: `retry`, `snooze`, `dead`, `drop`.
"""

from __future__ import annotations

from enum import Enum

from brokerrun.core.model import Attempt, Claim, Held, Settlement
from brokerrun.core.owners import random_bits
from brokerrun.core.states import Event
from brokerrun.values import Value


class Outcome(Enum):
    """How an attempt ended that was not acknowledged."""

    FAILED = "failed"
    TIMEOUT = "timeout"
    DIED = "died"
    LOST = "lost"
    CANCELLED = "cancelled"
    RETRY = "retry"
    SNOOZE = "snooze"
    DEAD = "dead"
    DROP = "drop"


class Backoff(Value):
    """Wait between attempts: doubling from *least* to *most* seconds with full jitter, or a list.

    The jitter stays inside the bounds: attempt n waits between *least* and
    min(*most*, *least* · 2ⁿ), drawn evenly.
    """

    least: float = 1.0
    most: float = 600.0
    steps: tuple[float, ...] = ()

    def delay(self, attempt: int, draw: float) -> float:
        """Return the seconds to wait after attempt number *attempt*; *draw* is in [0, 1)."""
        if self.steps:
            return self.steps[min(attempt, len(self.steps)) - 1]
        top = min(self.most, self.least * 2.0 ** min(attempt, 60))
        return self.least + draw * (top - self.least)


class Ended(Value):
    """How one attempt ended.

    delay: Seconds that the handler wished for (retry, snooze).
    alone: The claim held this message only, or it is known to be the one that was in hand.
    """

    outcome: Outcome
    error: str | None = None
    traceback: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    pid: int | None = None
    host: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    delay: float | None = None
    alone: bool = True


class RetryPolicy(Value):
    """How often a message runs, and where it goes then.

    crashes: How many of its attempts may take the process down.
    dead_letter: None: it is dropped after the last attempt, and its history stays.
    """

    max_attempts: int = 4
    crashes: int = 2
    backoff: Backoff = Backoff()
    dead_letter: str | None = None

    def settle(self, held: Held | Claim, ended: Ended, draw: float | None = None) -> Settlement:
        """Decide between retry, release, bury and drop; *draw* in [0, 1) is the jitter."""
        outcome = ended.outcome
        if outcome is Outcome.DROP:
            return self._end(held, ended, Event.ACK)
        if outcome is Outcome.SNOOZE:
            return self._end(held, ended, Event.RELEASE, delay=ended.delay or 0.0)
        crashes = 1 if outcome is Outcome.DIED else 0
        if outcome is Outcome.DEAD or (ended.alone and self._used_up(held, crashes)):
            return self._end(held, ended, Event.BURY if self.dead_letter else Event.ACK)
        jitter = random_bits(32) / 2**32 if draw is None else draw
        return self._end(
            held, ended, Event.RETRY, delay=self._delay(held, ended, jitter), crashes=crashes
        )

    def _used_up(self, held: Held | Claim, crashes: int) -> bool:
        over = crashes > 0 and held.crashes + crashes >= self.crashes
        return held.attempts >= self.max_attempts or over

    def _delay(self, held: Held | Claim, ended: Ended, draw: float) -> float:
        if ended.delay is not None:
            return ended.delay
        if ended.outcome is Outcome.LOST or (ended.outcome is Outcome.DIED and held.crashes == 0):
            return 0.0  # one death is no pattern: it runs again at once
        return self.backoff.delay(held.attempts, draw)

    def _end(
        self,
        held: Held | Claim,
        ended: Ended,
        event: Event,
        *,
        delay: float = 0.0,
        crashes: int = 0,
    ) -> Settlement:
        died = event is Event.BURY or (event is Event.ACK and ended.outcome is not Outcome.DROP)
        attempt = Attempt(
            message=held.id,
            queue=held.queue,
            attempt=held.attempts,
            outcome=ended.outcome.value,
            died=int(died),
            error=ended.error,
            traceback=ended.traceback,
            exit_status=ended.exit_status,
            signal=ended.signal,
            pid=ended.pid,
            host=ended.host,
            started_at=ended.started_at,
            ended_at=ended.ended_at,
        )
        return Settlement(
            id=held.id,
            receipt=held.receipt,
            event=event,
            delay=delay,
            queue=self.dead_letter if event is Event.BURY else None,
            crashes=crashes,
            attempt=attempt,
        )


def dead_letter_of(queue: str) -> str:
    """Name the dead-letter queue of a queue, where nobody names another."""
    return f"{queue}.dlq"


def acknowledge(held_id: int, receipt: int) -> Settlement:
    """End a claim in success."""
    return Settlement(held_id, receipt, Event.ACK)


def release(held_id: int, receipt: int) -> Settlement:
    """Give a claim back that was not begun: no attempt is burned, history says nothing."""
    return Settlement(held_id, receipt, Event.RELEASE)
