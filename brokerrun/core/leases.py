"""Claims that outlive the process that made them: a lease with a time, and a receipt as text.

For owners whose life cannot be seen: a shell script that claims with one command and acknowledges
with another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from brokerrun.core.broker import Broker
from brokerrun.core.ids import DIGITS, GREATEST, now_ns
from brokerrun.core.model import Claim, Effect, Held, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import Event
from brokerrun.errors import UsageError

LEASE = 60.0  # seconds, where the caller says none
_RECEIPT = re.compile(rf"(\d{{{DIGITS}}})-([0-9a-f]{{16}})", re.ASCII)
_SECOND = 10**9


def claim_for(
    broker: Broker,
    queue: str,
    *,
    lease: float = LEASE,
    limit: int = 1,
    hold: str | None = None,
) -> tuple[list[Claim], int]:
    """Hold up to *limit* ready messages for *lease* seconds; each claim counts an attempt.

    Returns:
        The claims, oldest message first, and the instant (nanoseconds) from which anybody may
        have the messages again. A message that was attempted before comes alone.
    """
    ends_at = now_ns() + int(lease * _SECOND)
    return broker.claim(Wanted(queue, new_guardian(), limit, hold, lease)), ends_at


def receipt_text(claim: Claim) -> str:
    """Write the receipt of a claim: the id of its message, and the proof."""
    return f"{claim.id}-{claim.receipt:016x}"


def parse_receipt(text: str) -> tuple[int, int]:
    """Read a receipt: the id of the message, and the proof.

    Raises:
        UsageError: It is none.
    """
    match = _RECEIPT.fullmatch(text)
    ident, proof = (int(match[1]), int(match[2], 16)) if match else (0, 0)
    if match is None or ident > GREATEST or proof > GREATEST:
        raise UsageError(
            f"invalid receipt {text!r}: expected what `broker claim` printed, an id of {DIGITS} "
            "digits, '-' and 16 hexadecimal digits"
        )
    return ident, proof


def acknowledge(broker: Broker, receipts: Sequence[str]) -> list[bool]:
    """End claims in success, all in one transaction; tell for each whether it was current.

    One that is not was lost: its lease ended and somebody has the message, or it was deleted.
    """
    parsed = [parse_receipt(receipt) for receipt in receipts]
    settlements = [Settlement(ident, proof, Event.ACK) for ident, proof in parsed]
    return [effect is Effect.SETTLED for effect in broker.store.work(settlements)[0]]


def extend(broker: Broker, receipt: str, lease: float = LEASE) -> bool:
    """Let the lease end *lease* seconds from now; False where the claim was lost."""
    return broker.store.extend(*parse_receipt(receipt), lease)


def holding(broker: Broker, receipt: str) -> Held | None:
    """Find what a receipt proves to hold; None where it was lost."""
    return broker.store.holding(*parse_receipt(receipt))
