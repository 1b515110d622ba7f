"""What an engine promises. Each engine passes one contract suite, tests/contract.

Queue names are literal here, sizes and names are checked: `Broker` does that. Every method is one
transaction unless it says otherwise, and answers with what it did. All raise `StoreBusy` where
the engine stays locked longer than its busy timeout, `StoreGone` where its file is no longer the
one that was opened, and `ForkUnsafe` in a child that was forked beside an open connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from brokerrun.core.model import (
    Attempt,
    Claim,
    Effect,
    Held,
    Instance,
    Message,
    QueueStats,
    Selection,
    Settlement,
    Wanted,
)


class Store(Protocol):
    """Messages, their states and their history, durable and shared by many processes."""

    def put(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages, all or none, and return their ids, which grow.

        The ids are made inside the transaction, so ids appear to others in their own order. When
        this returns, the messages survive a power cut. *delay* is in seconds; a smaller
        *priority* goes first.
        """
        ...

    def look(self, queue: str, selection: Selection) -> list[Message]:
        """Show what is not DONE, by priority and id; leased and delayed messages too."""
        ...

    def take(self, queue: str, selection: Selection) -> list[Message]:
        """READ: mark ready messages DONE and return them, by priority and id."""
        ...

    def move(self, queue: str, target: str, selection: Selection) -> list[Message]:
        """MOVE: begin a new life for ready messages in *target*, and return them.

        By id it brings a DONE message back as well. The ids stay.
        """
        ...

    def delete(self, queue: str | None, message: int | None = None) -> int:
        """DELETE: end one message, all of *queue*, or all there are; return how many ended."""
        ...

    def work(
        self, settlements: Sequence[Settlement], wanted: Wanted | None = None, *, late: bool = False
    ) -> tuple[list[Effect], list[Claim]]:
        """Settle claims and make new ones, in one transaction.

        A settlement takes effect only where its receipt is the current one. Two callers never
        hold the same message at once. A message that was attempted before is claimed alone.

        Args:
            late: The transaction may be flushed later: at-least-once allows it to happen again.

        Returns:
            The effect of each settlement, and the claims, by priority and id; never waits.
        """
        ...

    def renew(self, ids: Sequence[int], receipt: int) -> tuple[int, set[int]]:
        """Put a new receipt on those of *ids* that still carry *receipt*.

        Returns:
            The new receipt, and the ids that carry it now.
        """
        ...

    def extend(self, message: int, receipt: int, lease: float) -> bool:
        """EXTEND: let a timed lease end *lease* seconds from now."""
        ...

    def held(self) -> list[Held]:
        """List the claims that last as long as their owners live, whether or not they do."""
        ...

    def begin_life(self, owner: int) -> None:
        """Be *owner* from now on, until this store is closed or the process ends."""
        ...

    def attend(self) -> None:
        """Say that a supervisor looks after this store: others leave the upkeep to it."""
        ...

    def alive(self, owner: int) -> bool:
        """Tell whether the owner of that number lives; a microsecond, no transaction."""
        ...

    def queues(self) -> list[QueueStats]:
        """Count each queue that holds a row, by name."""
        ...

    def history(self, message: int) -> list[Attempt]:
        """List the attempts of a message that did not end in ACK, oldest first."""
        ...

    def unfinished(self, queues: Sequence[str]) -> bool:
        """Tell whether something there is ready, running, or waits for a further attempt.

        A message that only its producer delayed does not count.
        """
        ...

    def last_attempt(self) -> int:
        """Return a mark of history as it is now, for `died_since`."""
        ...

    def died_since(self, mark: int, queues: Sequence[str]) -> int:
        """Count the messages of *queues* that died since *mark*."""
        ...

    def put_instance(self, instance: Instance) -> None:
        """Write a supervisor's row over that of the same name and host."""
        ...

    def instance(self, name: str, host: str) -> Instance | None:
        """Find a supervisor's row."""
        ...

    def upkeep(self, history_before: int) -> None:
        """Checkpoint where the log is long, vacuum DONE rows, forget history ended before then.

        Does a bounded slice of each; several transactions.
        """
        ...

    def wait(self, queues: Sequence[str], timeout: float, fds: Sequence[int] = ()) -> None:
        """Sleep until one of *queues* may have something ready.

        Ends early where one of *fds* can be read, and no later than *timeout* seconds. May
        return for nothing.
        """
        ...

    def flush(self) -> None:
        """Make durable what was committed late."""
        ...

    def close(self) -> None:
        """Let everything go. A later call opens it again."""
        ...
