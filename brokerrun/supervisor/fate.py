"""What becomes of the messages that a dead worker held: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from brokerrun.core.model import Held, Settlement
from brokerrun.core.retry import Ended, Outcome, RetryPolicy, acknowledge, release
from brokerrun.supervisor.slotfile import InHand


class Cause(Enum):
    """Why a worker is dead."""

    ITSELF = "itself"  # it died, or its message killed it
    TIMEOUT = "timeout"  # killed, since its message was over its time
    STOP = "stop"  # killed, since it was to stop: nobody's fault
    CANCEL = "cancel"  # killed, since an operator wanted its message ended
    CONDEMN = "condemn"  # the same, and the message is to be among the dead
    LOST = "lost"  # its supervisor or the machine went down


FOR_ITS_MESSAGE = (Cause.TIMEOUT, Cause.CANCEL, Cause.CONDEMN)
_OUTCOMES = {
    Cause.ITSELF: Outcome.DIED,
    Cause.TIMEOUT: Outcome.TIMEOUT,
    Cause.CANCEL: Outcome.CANCELLED,
    Cause.CONDEMN: Outcome.DEAD,
    Cause.LOST: Outcome.LOST,
}


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of the end of a worker. Exit status and signal exclude each other."""

    cause: Cause
    pid: int
    host: str
    exit_status: int | None = None
    signal: int | None = None
    reason: str | None = None
    traceback: str | None = None
    started_at: int | None = None
    ended_at: int | None = None


def fates(
    held: Sequence[Held], seen: InHand | None, death: Death, policy: RetryPolicy
) -> list[Settlement]:
    """Settle what one dead owner held.

    With its slot: acknowledged before the index, struck at the index, released behind it, and
    what carries another receipt was not begun. Without: each goes back with its attempt counted,
    and only one that was claimed alone may be buried for it.
    """
    claimed_together = Counter(row.receipt for row in held)
    return [
        _fate_without(row, claimed_together[row.receipt] == 1, death, policy)
        if seen is None
        else _fate(row, seen, death, policy)
        for row in held
    ]


def _fate(row: Held, seen: InHand, death: Death, policy: RetryPolicy) -> Settlement:
    if row.receipt != seen.receipt or row.id not in seen.ids:
        return release(row.id, row.receipt)
    place = seen.ids.index(row.id)
    if place < seen.index:
        return acknowledge(row.id, row.receipt)
    if place > seen.index or death.cause is Cause.STOP:
        return release(row.id, row.receipt)
    return policy.settle(row, _ended(death))


def _fate_without(row: Held, alone: bool, death: Death, policy: RetryPolicy) -> Settlement:
    return policy.settle(row, _ended(replace(death, cause=Cause.LOST))._replace(alone=alone))


def _ended(death: Death) -> Ended:
    return Ended(
        outcome=_OUTCOMES[death.cause],
        error=death.reason,
        traceback=death.traceback,
        exit_status=death.exit_status,
        signal=death.signal,
        pid=death.pid,
        host=death.host,
        started_at=death.started_at,
        ended_at=death.ended_at,
    )
