"""What one SQLiteQueue knows: the receipts of what it dequeued, and the counts of what it did."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from brokerrun.core.model import Claim
from brokerrun.sqqueue.result import QueueError
from brokerrun.values import Value

# One lock for all of them, held for an instant. No process is forked inside it: the child of one
# that was would wait for a thread that it has not.
_LOCK: Final = threading.RLock()
os.register_at_fork(
    before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
)


NOBODY: Final = 0


class Record:
    """Receipts by message id, and counts by the name of the operation; for several threads."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._holds: dict[int, _Hold] = {}

    def dequeued(self, claims: Sequence[Claim]) -> None:
        """Note what this thread has now; what another thread of ours had of it is lost to that."""
        thread, pid = threading.get_ident(), os.getpid()
        with _LOCK:
            for claim in claims:
                old = self._holds.get(claim.id)
                before = old.before | {old.thread} if old else frozenset[int]()
                self._holds[claim.id] = _Hold(claim.receipt, pid, thread, before - {thread})

    def receipt(self, ident: int) -> int | None:
        """Return the receipt of a message; None where it was not dequeued here.

        Raises:
            QueueError: This thread had it, and another thread of ours got it after that.
        """
        with _LOCK:
            hold = self._holds.get(ident)
        if hold is None:
            return None
        if threading.get_ident() in hold.before:
            raise was_lost(ident)
        return hold.receipt

    def forget(self, ident: int, receipt: int) -> None:
        """Drop what is known of a message, where that is its newest receipt."""
        with _LOCK:
            if ident in self._holds and self._holds[ident].receipt == receipt:
                del self._holds[ident]

    def gave_back(self, ident: int, receipt: int) -> None:
        """Have a message no more, but know its receipt: a thread may still answer with it."""
        with _LOCK:
            hold = self._holds.get(ident)
            if hold is not None and hold.receipt == receipt:
                self._holds[ident] = hold._replace(pid=NOBODY)

    def in_hand(self) -> list[tuple[int, int]]:
        """List ids and receipts of what this process dequeued; not what its parent did."""
        with _LOCK:
            held = [*self._holds.items()]
        return [(ident, hold.receipt) for ident, hold in held if hold.pid == os.getpid()]

    def done(self, name: str) -> int:
        """Count an operation; return how many were done."""
        with _LOCK:
            self._done[name] += 1
            return self._done.total()

    def total(self) -> int:
        """Return how many operations were done."""
        with _LOCK:
            return self._done.total()

    def failed(self, name: str) -> None:
        """Count a failure."""
        with _LOCK:
            self._failed[name] += 1

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many operations were done and how many failed, by name."""
        with _LOCK:
            return dict(self._done), dict(self._failed)


class _Hold(Value):
    """A message that was dequeued.

    pid: The process that has it, or NOBODY.
    before: Threads of ours that had it, and lost it, since it was last settled here.
    """

    receipt: int
    pid: int
    thread: int
    before: frozenset[int]


def was_lost(ident: int) -> QueueError:
    """Say that a receipt is not the current one any more."""
    return QueueError(
        f"message {ident} was lost: its claim is not the current one any more, "
        "as its time-out was over or it was ended elsewhere"
    )
