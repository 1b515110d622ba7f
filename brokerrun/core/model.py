"""The values that travel between the floors: frozen, without behaviour.

Instants (`*_at`) are nanoseconds since 1970, durations are seconds.
"""

from __future__ import annotations

from enum import Enum

from brokerrun.core.states import Event, State
from brokerrun.values import Value


class Effect(Enum):
    """What a settlement did."""

    SETTLED = "settled"
    GONE = "gone"  # the message was ended by hand meanwhile
    LOST = "lost"  # somebody else holds it, or held it since


class Message(Value):
    """A message as a looker or taker sees it."""

    id: int
    body: str
    queue: str
    state: State = State.READY
    ready_at: int | None = None  # READY: not before this instant; LEASED: the lease ends then
    attempts: int = 0
    priority: int = 0


class Draft(Value):
    """A message to be stored.

    delay: Seconds before which nobody takes it.
    priority: A smaller one goes first.
    """

    body: str
    delay: float = 0.0
    priority: int = 0


class Claim(Value):
    """One hold on one message. The receipt is the proof of it and never used again."""

    id: int
    body: str
    queue: str  # its home, also while it stands elsewhere
    receipt: int
    attempts: int  # this one included
    crashes: int
    last_error: str | None = None
    priority: int = 0


class Attempt(Value):
    """One run of a message that did not end in ACK: a row of history."""

    message: int
    queue: str
    attempt: int
    outcome: str
    died: int = 0  # 1: it was the last one: to the dead-letter queue, or dropped without one
    error: str | None = None
    traceback: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    pid: int | None = None
    host: str | None = None
    started_at: int | None = None
    ended_at: int | None = None


class Settlement(Value):
    """The end of one claim: ACK, RETRY, RELEASE or BURY, and what history says of it.

    delay: Seconds until the message is ready again (RETRY, RELEASE).
    queue: The dead-letter queue (BURY).
    crashes: How much the count of crashes grows (RETRY).
    """

    id: int
    receipt: int
    event: Event
    delay: float = 0.0
    queue: str | None = None
    crashes: int = 0
    attempt: Attempt | None = None


class Selection(Value):
    """Which messages of a queue are meant, oldest first.

    after, before: The open interval of ids.
    id: That one message only.
    newest: The one with the greatest id instead of the oldest.
    most_bytes: No further one once the bodies have so many characters: bounds what is in memory.
    beyond: Only what comes after this priority and id, in that order: a page follows the last one.
    """

    limit: int | None = 1
    after: int | None = None
    before: int | None = None
    id: int | None = None
    newest: bool = False
    most_bytes: int | None = None
    beyond: tuple[int, int] | None = None


class QueueStats(Value):
    """What stands in one queue. The first line is what the documents of the queue promise."""

    queue: str
    pending: int  # not yet read: ready, delayed and running
    claimed: int  # DONE: read, not yet vacuumed
    total: int
    delayed: int = 0
    running: int = 0
    oldest_at: int | None = None  # of the pending ones, from the id

    @property
    def exists(self) -> bool:
        return self.total > 0

    @property
    def ready(self) -> int:
        return self.pending - self.delayed - self.running


class Summary(Value):
    """What stands in a whole store. Read messages count until they are vacuumed."""

    total: int
    newest: int  # the greatest id ever given, 0 before the first
    size_bytes: int


class Held(Value):
    """A leased row, as recovery sees it."""

    id: int
    queue: str
    owner: int
    receipt: int
    attempts: int
    crashes: int


class Instance(Value):
    """A supervisor's row: who serves the database under that name, or did."""

    name: str
    host: str
    owner: int
    pid: int
    socket: str
    version: str
    started_at: int
    stopped_at: int | None = None
    workers: str = ""  # "emails=2,thumbnails=1"


class FleetEvent(Value):
    """Something that happened to a fleet. *at* in epoch nanoseconds, *facts* a JSON object."""

    at: int
    instance: str
    host: str
    event: str
    facts: str
    id: int = 0  # grows; 0: not yet stored


class Schedule(Value):
    """What is remembered of a schedule: the ticks until *last_at* are over.

    message: The last one that was sent.
    queue: Where that one still waits or runs; None: it is finished.
    """

    name: str
    last_at: int
    message: int | None = None
    queue: str | None = None


class Sent(Value):
    """What came of the ticks of one schedule.

    ids: Of the messages; fewer than ticks where somebody else sent some.
    waiting: The earlier message for which none was sent.
    """

    ids: tuple[int, ...] = ()
    waiting: int | None = None


class Wanted(Value):
    """What a claim asks for: up to *limit* ready messages of *queue*, for *owner*.

    after, before: The open interval of their ids.
    most_bytes: No further one once the bodies have so many characters, as in a selection.
    hold: The queue in which they are shown meanwhile; None: they stay where they are.
    lease: Seconds after which anyone may take them back; None: not while *owner* lives.
    """

    queue: str
    owner: int
    limit: int = 1
    hold: str | None = None
    lease: float | None = None
    after: int | None = None
    before: int | None = None
    most_bytes: int | None = None
