"""Queue: one queue of a store, for those who embed it."""

from __future__ import annotations

from os import PathLike, fspath
from types import TracebackType

from brokerrun.core.broker import Broker, check_name
from brokerrun.core.model import Message, QueueStats, Selection
from brokerrun.core.settings import Settings


class Queue:
    """One queue, by name.

    The connection opens at the first use. Without *persistent* it closes after each call, with
    it when the queue is closed. A queue may be used by several threads, and by a forked child,
    which opens a connection of its own: nothing is lost in any order of parent and child.

    Args:
        name: Letters, digits, `_`, `-` and `.`.
        db_path: The database; by default `.broker.db` in the current directory.
    """

    def __init__(
        self,
        name: str,
        db_path: str | PathLike[str] | None = None,
        *,
        persistent: bool = False,
    ):
        self.name = check_name(name)
        self.db_path = fspath(db_path or Settings().default_db_name)
        self.persistent = persistent
        self._broker = Broker(self.db_path)

    def write(self, message: str) -> int:
        """Store a message and return its id."""
        with self._call() as broker:
            return broker.write(self.name, message)

    def read(self) -> str | None:
        """Remove the oldest message and return it; None where nothing is ready."""
        with self._call() as broker:
            return _body(broker.read(self.name))

    def peek(self) -> str | None:
        """Return the oldest message and leave it; None where there is none."""
        with self._call() as broker:
            return _body(broker.peek(self.name))

    def delete(self, *, message_id: int | None = None) -> bool:
        """Delete one message, or all of the queue; tell whether any was there."""
        with self._call() as broker:
            return broker.delete(self.name, message_id) > 0

    def move(self, target: str) -> Message | None:
        """Move the oldest ready message to *target*; None where nothing is ready."""
        with self._call() as broker:
            moved = broker.move(self.name, target, Selection())
            return moved[0] if moved else None

    def stats(self) -> QueueStats:
        """Count the queue."""
        with self._call() as broker:
            return broker.stats(self.name)

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self._broker.close()

    def _call(self) -> _Call:
        return _Call(self._broker, self.persistent)

    def __enter__(self) -> Queue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Queue({self.name!r}, db_path={self.db_path!r})"


class _Call:
    """One use of the broker; closes it afterwards unless the queue is persistent."""

    def __init__(self, broker: Broker, keep: bool):
        self.broker, self.keep = broker, keep

    def __enter__(self) -> Broker:
        return self.broker

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.keep:
            self.broker.close()


def _body(messages: list[Message]) -> str | None:
    return messages[0].body if messages else None
