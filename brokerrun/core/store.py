"""What an engine promises. Each engine passes one contract suite, tests/contract.

Queue names are literal here, sizes and names are checked: `Broker` does that. Every method is one
transaction unless it says otherwise, and answers with what it did. All raise `StoreBusy` where
the engine stays locked longer than its busy timeout, `StoreGone` where its file is no longer the
one that was opened, and `ForkUnsafe` in a child that was forked beside an open connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from brokerrun.core.model import (
    Attempt,
    Claim,
    Draft,
    Effect,
    FleetEvent,
    Held,
    Instance,
    Message,
    QueueStats,
    Schedule,
    Selection,
    Sent,
    Settlement,
    Summary,
    Wanted,
)


class Store(Protocol):
    """Messages, their states and their history, durable and shared by many processes."""

    def within(self, connection: object) -> Store:
        """Give this store inside a transaction of the caller's, on a connection of the caller's.

        What is done through it becomes true when the caller commits; not for waits, nor upkeep.

        Raises:
            ArgumentError: It is no connection of this engine's.
            UsageError: It is in no transaction and begins none by itself, or is one to another
                database.
        """
        ...

    def awaited(self, connection: object, message: int, receipt: int) -> bool:
        """Tell whether the end of a claim waits for the commit of the caller's transaction."""
        ...

    def put(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages, all or none, and return their ids, which grow.

        The ids are made inside the transaction, so ids appear to others in their own order. When
        this returns, the messages survive a power cut. *delay* is in seconds; a smaller
        *priority* goes first.
        """
        ...

    def put_drafts(self, queue: str, drafts: Sequence[Draft]) -> list[int]:
        """Store messages as `put` does, each with its own delay and priority."""
        ...

    def broadcast(self, body: str, chosen: Callable[[str, bool], bool]) -> list[tuple[str, int]]:
        """Store a message in each queue that holds a row and is chosen; return queue and id.

        *chosen* is asked with the name, and with whether only holds and burials made the queue.
        """
        ...

    def load(self, messages: Iterable[Message], aliases: Sequence[tuple[str, str]] = ()) -> None:
        """Store messages with the ids, attempts, priorities and delays that they have, all or none.

        Raises:
            MessageError: An id is there already.
            AliasError: An alias stands for another queue.
        """
        ...

    def look(self, queue: str, selection: Selection) -> list[Message]:
        """Show what is not DONE, by priority and id; leased and delayed messages too."""
        ...

    def take(self, queue: str, selection: Selection) -> list[Message]:
        """READ: mark ready messages DONE and return them, by priority and id."""
        ...

    def finish(self, claims: Sequence[Claim], target: str | None = None) -> int:
        """RELEASE and READ what is still held, or MOVE it to *target*, in one transaction.

        Returns:
            How many were.
        """
        ...

    def unread(self, queue: str, ids: Sequence[int]) -> int:
        """Bring messages that were read back to their queue; return how many came."""
        ...

    def unmove(self, queue: str, target: str, ids: Sequence[int]) -> int:
        """Move those of *ids* that are ready in *target* back to *queue*; return how many."""
        ...

    def rename(self, queue: str, new: str) -> bool:
        """Give a queue another name, with its claims and aliases; False if it holds no row.

        Raises:
            UsageError: There are rows under the new name.
        """
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
        self, settlements: Sequence[Settlement], *wanted: Wanted, late: bool = False
    ) -> tuple[list[Effect], list[Claim]]:
        """Settle claims and make new ones, in one transaction.

        Of what is *wanted* the first that is there is claimed, and nothing else.

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

    def holding(self, message: int, receipt: int | None = None) -> Held | None:
        """Find the current claim of a message; None where it has none, or another receipt."""
        ...

    def held(self) -> list[Held]:
        """List the claims that last as long as their owners live, whether or not they do."""
        ...

    def begin_life(self, owner: int) -> None:
        """Be *owner* until `end_life`, or until this process ends; a close ends no life."""
        ...

    def end_life(self, owner: int) -> None:
        """Be *owner* no longer: what it still holds is anybody's. Nothing happens in a fork."""
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

    def stats(self, queue: str) -> QueueStats:
        """Count one queue; zeros where it holds nothing."""
        ...

    def exists(self, queue: str) -> bool:
        """Tell whether a queue holds a row, read ones included."""
        ...

    def summary(self) -> Summary:
        """Count everything."""
        ...

    def newest(self) -> int:
        """Return the greatest id ever given; 0 before the first."""
        ...

    def stamp(self) -> int:
        """Give an id that no message has: greater than all before, and all later ones greater."""
        ...

    def aliases(self) -> list[tuple[str, str]]:
        """List each alias and the queue that it stands for, by name."""
        ...

    def alias(self, name: str) -> str | None:
        """Return the queue that an alias stands for; None where it is not defined."""
        ...

    def add_alias(self, name: str, target: str) -> bool:
        """Let an alias stand for a queue; False where the alias is there already.

        Raises:
            AliasError: *target* is itself an alias.
        """
        ...

    def remove_alias(self, name: str) -> bool:
        """Forget an alias; tell whether it was there."""
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

    def put_pauses(self, name: str, host: str, paused: Mapping[str, bool]) -> None:
        """Remember of workers of an instance whether they are paused."""
        ...

    def pauses(self, name: str, host: str) -> dict[str, bool]:
        """Return what was said last of each worker of an instance that was ever paused."""
        ...

    def schedules(self) -> list[Schedule]:
        """List what is remembered of each schedule, by name."""
        ...

    def begin_schedule(self, name: str, timing: str, at: int) -> None:
        """Let a schedule that is not known have its ticks after *at*; one that is goes on.

        *timing* says what decides its ticks: where it differs from before, none until *at* count.
        """
        ...

    def set_schedule(self, name: str, at: int, *, seen: int) -> bool:
        """Say that the ticks until *at*, and no others, are over, if so far it was *seen*."""
        ...

    def send_ticks(
        self, name: str, ticks: Sequence[int], queue: str, body: str, *, overlap: bool
    ) -> Sent:
        """Store a message for each tick that is not over, and let them all be over, in one go.

        One tick is one message, whoever sends it how often. Without *overlap* none is stored while
        the last message of the schedule waits, is delayed or runs in that queue.

        Args:
            ticks: Nanoseconds, at least one, growing.
        """
        ...

    def instances(self) -> list[Instance]:
        """List the row of every supervisor there is or was, by name and host."""
        ...

    def add_events(self, events: Sequence[FleetEvent]) -> None:
        """Keep what happened to a fleet; of all fleets the newest ten thousand stay."""
        ...

    def events(self, limit: int, after: int | None = None) -> list[FleetEvent]:
        """List the newest events, or the first after that id; oldest first."""
        ...

    def upkeep(self, history_before: int) -> None:
        """Checkpoint where the log is long, vacuum DONE rows, forget history ended before then.

        History is attempts and events.

        Does a bounded slice of each; several transactions.
        """
        ...

    def vacuum(self, *, compact: bool = False) -> int:
        """VACUUM: drop the messages that were read, in slices; return how many went.

        Several transactions. With *compact* the space goes back to the file system.
        """
        ...

    def wait(
        self,
        queues: Sequence[str],
        timeout: float,
        fds: Sequence[int] = (),
        *,
        stand_back: float = 0.0,
    ) -> None:
        """Sleep until one of *queues* may have something ready.

        Ends early where one of *fds* can be read, and no later than *timeout* seconds. May
        return for nothing. Who is woken lets others that wait go first for *stand_back* seconds:
        where many wait for one message, they need not all reach for it.
        """
        ...

    def wait_until(
        self, probe: Callable[[], bool], timeout: float, fds: Sequence[int] = ()
    ) -> bool:
        """Sleep until *probe* says so: asked at once, after each commit, and when something is due.

        Ends early where one of *fds* can be read or is broken, and no later than *timeout*; tells
        whether *probe* said so.
        """
        ...

    def ready(self, queue: str, selection: Selection = Selection()) -> bool:  # noqa: B008
        """Tell whether `take` may find something."""
        ...

    def flush(self) -> None:
        """Make durable what was committed late."""
        ...

    def close(self) -> None:
        """Let everything go. A later call opens it again."""
        ...
