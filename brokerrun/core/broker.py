"""Broker: the public verbs over one store. What is checked is checked here, once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType

from brokerrun.core.backends import open_store
from brokerrun.core.model import Attempt, Message, QueueStats, Selection
from brokerrun.core.recovery import give_back
from brokerrun.errors import MessageError, QueueNameError, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.store import Store

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
MAX_NAME_LENGTH = 512
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class Broker:
    """All queues of one store.

    Opens it at the first use; `create=False` refuses to make a new one. A broker may be used from
    several threads, and in a child that was forked: it opens its own connection there.
    """

    def __init__(self, target: str, *, create: bool = True):
        self.target = target
        self.store: Store = open_store(target, create=create)

    def write(self, queue: str, body: str, *, delay: float = 0.0, priority: int = 0) -> int:
        """Store one message and return its id. It survives a power cut when this returns.

        Raises:
            QueueNameError: The name is outside the grammar.
            MessageError: The body is no text that can be encoded, or larger than 10 MB.
        """
        return self.write_many(queue, [body], delay=delay, priority=priority)[0]

    def write_many(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages in one transaction, all or none, and return their ids in order."""
        check_name(queue)
        for body in bodies:
            check_body(body)
        return self.store.put(queue, bodies, delay=delay, priority=priority) if bodies else []

    def peek(self, queue: str, selection: Selection = Selection()) -> list[Message]:  # noqa: B008
        """Show messages and leave them: oldest first, delayed and running ones too."""
        return self.store.look(check_name(queue), selection)

    def read(self, queue: str, selection: Selection = Selection()) -> list[Message]:  # noqa: B008
        """Remove messages and return them, oldest first. They are gone when this returns."""
        check_name(queue)
        taken = self.store.take(queue, selection)
        if not taken and give_back(self.store):
            taken = self.store.take(queue, selection)
        return taken

    def move(
        self,
        queue: str,
        target: str,
        selection: Selection = Selection(),  # noqa: B008
    ) -> list[Message]:
        """Move ready messages to *target*, oldest first, and return them. Their ids stay."""
        if check_name(queue) == check_name(target):
            raise UsageError(f"cannot move {queue!r} to itself: name another queue")
        moved = self.store.move(queue, target, selection)
        if not moved and give_back(self.store):
            moved = self.store.move(queue, target, selection)
        return moved

    def delete(self, queue: str | None, message: int | None = None) -> int:
        """Delete one message, a queue's, or (queue None) all there are; return how many.

        In any state: this is how a handler acknowledges its own message by hand.
        """
        return self.store.delete(queue if queue is None else check_name(queue), message)

    def queues(self) -> list[QueueStats]:
        """Count each queue that holds a row, by name."""
        return self.store.queues()

    def stats(self, queue: str) -> QueueStats:
        """Count one queue; zeros where it holds nothing."""
        check_name(queue)
        found = (stats for stats in self.store.queues() if stats.queue == queue)
        return next(found, QueueStats(queue, 0, 0, 0))

    def history(self, message: int) -> list[Attempt]:
        """List the attempts of a message that did not end in success, oldest first."""
        return self.store.history(message)

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self.store.close()

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_name(name: str) -> str:
    """Return *name* if it is a queue name: letters, digits, `_`, `-`, `.`; not first `-` or `.`.

    Raises:
        QueueNameError: It is none.
    """
    if len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 60 else name[:57] + "..."
    raise QueueNameError(
        f"invalid queue name {shown!r}: expected letters, digits, '_', '-' and '.', "
        f"not beginning with '-' or '.', at most {MAX_NAME_LENGTH}"
    )


def check_body(body: str) -> str:
    """Return *body* if it can be stored.

    Raises:
        MessageError: It cannot be encoded as UTF-8, or has more than MAX_MESSAGE_BYTES.
    """
    try:
        size = len(body) if body.isascii() else len(body.encode())
    except UnicodeEncodeError as error:
        raise MessageError(
            f"invalid message: character {error.start} is a lone surrogate, not UTF-8 text"
        ) from None
    if size > MAX_MESSAGE_BYTES:
        raise MessageError(f"message of {size} bytes: at most {MAX_MESSAGE_BYTES} are allowed")
    return body
