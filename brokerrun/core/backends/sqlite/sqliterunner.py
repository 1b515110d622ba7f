"""The runner that comes with brokerrun: to be wrapped, or for statements beside queues."""

from __future__ import annotations

import os
import re
import threading
from enum import Enum

from brokerrun.closing import Closing
from brokerrun.core.backends.sqlite.faults import translated
from brokerrun.core.backends.sqlite.runner import Connection
from brokerrun.core.settings import settings_for
from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

_READS = re.compile(r"\s*(select|pragma|explain|values)\b", re.IGNORECASE)


class SetupPhase(Enum):
    """What SimpleBroker's runners are asked to prepare; here one opening does it all."""

    CONNECTION = "connection"
    SCHEMA = "schema"
    OPTIMIZATION = "optimization"


class SQLiteRunner(Closing):
    """An `SQLRunner` on the connection that queues themselves use.

    It keeps what that promises: the turnstile between writers, checkpoints without harm, the
    closing before a fork, and the refusal of files that are not ours. Threads take turns: one that
    begins a transaction has the runner to itself until it ends it.

    Args:
        db_path: The database; made with its tables where it is missing.
        config: BROKER_* keys that go before the environment.
    """

    def __init__(
        self, db_path: str | os.PathLike[str], *, config: Mapping[str, object] | None = None
    ):
        self._connection = Connection(os.fspath(db_path), settings=settings_for(config))
        # By thread, and in no threading.local: a fork empties those of other threads in the child,
        # which would roll the transaction of the parent back there.
        self._open: dict[int, _Open] = {}

    @property
    def db_path(self) -> str:
        """The real path of the database."""
        return self._connection.path

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        """Run one statement; one that writes, outside a transaction, is a transaction of its own.

        Raises:
            OperationalError: The database is locked, or the disk full.
            IntegrityError: A constraint refused it.
            StoreError: It is no statement, or cannot be carried out.
        """
        if (open_ := self._here()) is not None:
            with translated(self.db_path):
                return _run(open_.db, sql, params, fetch)
        reads = _READS.match(sql) is not None
        with self._connection.looking() if reads else self._connection.writing() as db:
            return _run(db, sql, params, fetch)

    def begin_immediate(self) -> None:
        """Begin a transaction; other writers wait until it ends.

        Raises:
            UsageError: This thread has one already.
            OperationalError: The lock stayed taken.
        """
        if self._here() is not None:
            raise UsageError(f"{self.db_path}: this thread is in a transaction already")
        scope = self._connection.writing()
        self._open[threading.get_ident()] = _Open(scope.__enter__(), scope, os.getpid())

    def commit(self) -> None:
        """End the transaction of this thread in success: durable when this returns.

        Raises:
            UsageError: There is none.
        """
        open_ = self._here()
        if open_ is None:
            raise UsageError(f"{self.db_path}: this thread is in no transaction")
        del self._open[threading.get_ident()]
        open_.scope.__exit__(None, None, None)

    def rollback(self) -> None:
        """End the transaction of this thread as if it had not been; nothing where there is none."""
        open_ = self._here()
        if open_ is not None:
            del self._open[threading.get_ident()]
            open_.scope.__exit__(_RollBack, _RollBack(), None)

    def close(self) -> None:
        """Close the connection; a later use opens it again."""
        self.rollback()
        self._connection.close()

    def setup(self, phase: SetupPhase) -> None:
        """Open the database."""
        self._connection.check_file()

    def is_setup_complete(self, phase: SetupPhase) -> bool:
        """Tell whether it was opened."""
        return self._connection.openings > 0

    def _here(self) -> _Open | None:
        """Return the transaction of this thread; one of before a fork is the parent's."""
        found = self._open.get(threading.get_ident())
        return found if found is not None and found.process == os.getpid() else None


class _Open(Value):
    """A transaction: where statements run, what ends it, and whose it is."""

    db: sqlite3.Connection
    scope: AbstractContextManager[sqlite3.Connection]
    process: int


class _RollBack(Exception):
    """Ends a transaction without its commit."""


def _run(
    db: sqlite3.Connection, sql: str, params: tuple[Any, ...], fetch: bool
) -> list[tuple[Any, ...]]:
    cursor = db.execute(sql, params)
    return cursor.fetchall() if fetch else []
