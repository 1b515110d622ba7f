"""What a caller brings who runs the statements of a queue by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class SQLRunner(Protocol):
    """Runs SQLite's statements, on whatever connections it likes; the caller's own to close.

    Between `begin_immediate` and the `commit` or `rollback` that follows, all comes from one
    thread and belongs to one transaction; one begins at a time, whatever queues share the runner.
    Outside of these, only statements that read are run.

    Before a fork it has to close its connections, and make them anew afterwards in parent and
    child (`os.register_at_fork`): a child of a process that has the file open loses what it
    commits, so its queues refuse to work (ForkUnsafe). Each connection wants `pragma
    wal_autocheckpoint = 0`: queues see to the log, and SQLite before 3.51.3 damages a file where
    two processes do so at once.
    """

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        """Run one statement, `?` for each of *params*; return its rows where *fetch* asks for them.

        Raises:
            OperationalError: Something that may work later, such as a lock; an error of `sqlite3`
                means the same.
            IntegrityError: A constraint refused it.
        """
        ...

    def begin_immediate(self) -> None:
        """Begin a transaction that holds the write lock. It is tried again where that is taken."""
        ...

    def commit(self) -> None:
        """Make what was done since `begin_immediate` true, and durable."""
        ...

    def rollback(self) -> None:
        """Undo what was done since `begin_immediate`."""
        ...

    def close(self) -> None:
        """Let all connections go. Queues never call it."""
        ...
