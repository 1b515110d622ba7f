"""A caller's own connection, in a transaction of the caller's, as an access to the database.

What is done here becomes true when the caller commits, and never if the caller rolls back. The
caller's write lock is held until then without the turnstile, so nothing here may pass it: another
process may stand in it and wait for that very lock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from brokerrun.core.backends.sqlite import forks
from brokerrun.core.backends.sqlite.birth import (
    APPLICATION_ID,
    CHECKPOINTS_TOGETHER,
    MIGRATIONS,
)
from brokerrun.core.backends.sqlite.faults import translated
from brokerrun.core.backends.sqlite.lockfile import Lockfile, lockfile_of
from brokerrun.core.settings import Settings
from brokerrun.errors import (
    OperationalError,
    StoreGone,
    StoreRefused,
    UsageError,
    wrong_kind,
)
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final

_SHADOWS: Final = """select 1 from temp.sqlite_master
                      where name in (select name from main.sqlite_master)"""


class Guest:
    """See `access.Access`. The connection stays the caller's: never closed, nor left changed."""

    openings = 1

    def __init__(self, path: str, settings: Settings, connection: object):
        if not isinstance(connection, sqlite3.Connection):
            raise wrong_kind("within", "an sqlite3.Connection", connection)
        self.path, self.settings, self._connection = path, settings, connection
        self.lockfile: Lockfile = lockfile_of(path)

    @contextmanager
    def writing(self, *, late: bool = False) -> Iterator[_Plain]:
        """Be inside a savepoint: what is done in the block is done wholly or not at all."""
        with self.looking() as db:
            begins = not self._connection.in_transaction
            if begins:
                db.execute("begin immediate")
            db.execute("savepoint brokerrun")
            try:
                yield db
            except BaseException as error:
                self._undo(db, begins, error)
                raise
            db.execute("release brokerrun")

    def _undo(self, db: _Plain, began: bool, error: BaseException) -> None:
        """Undo what was done in the block, and the beginning where that was ours."""
        if not self._connection.in_transaction:
            raise OperationalError(
                f"{self.path}: {error}: SQLite rolled the whole transaction back: begin it again"
            ) from error
        if began:
            db.execute("rollback")
        else:
            db.execute("rollback to brokerrun")
            db.execute("release brokerrun")

    @contextmanager
    def looking(self) -> Iterator[_Plain]:
        """See what the caller's transaction sees, or the next one would.

        Raises:
            UsageError: There is none, or it is one on another database.
        """
        connection = self._connection
        text, connection.text_factory = connection.text_factory, str
        try:
            with translated(self.path):
                forks.must_be_safe(self.path, brought=True)
                db = _Plain(connection)
                if not connection.in_transaction:
                    self._may_begin()
                self._must_be_ours(db)
                yield db
        finally:
            connection.text_factory = text

    def _may_begin(self) -> None:
        own = self._connection
        if own.isolation_level is None or getattr(own, "autocommit", -1) is True:
            raise UsageError(
                "within: expected a connection in a transaction, got one that commits each "
                "statement by itself: execute 'begin immediate' first"
            )

    def _must_be_ours(self, db: _Plain) -> None:
        """Look whether it is open on our file; keep its checkpoints and its forks from harm."""
        names = {name: file for _, name, file in db.execute("pragma database_list")}
        found = names["main"]
        try:
            same = bool(found) and os.path.samefile(found, self.path)
        except FileNotFoundError:
            raise StoreGone(f"{self.path}: the database was deleted or renamed") from None
        if same and not forks.is_open(self.path):
            raise StoreGone(f"{self.path}: the database was replaced: connect again")
        if not same:
            raise UsageError(
                f"within: expected a connection to {self.path}, got one to "
                f"{found or 'a database in memory'}"
            )
        ident = db.execute("pragma application_id").fetchone()[0]
        version = db.execute("pragma user_version").fetchone()[0]
        if (ident, version) != (APPLICATION_ID, len(MIGRATIONS)):
            raise StoreRefused(
                f"{self.path}: not a brokerrun database of this version: `broker init` makes or "
                "upgrades one, before a connection is brought"
            )
        if "temp" in names and db.execute(_SHADOWS).fetchone():
            raise UsageError("within: a temporary table of the connection hides one of the queue's")
        # Two processes that checkpoint at once damage the file, before that version.
        if sqlite3.sqlite_version_info < CHECKPOINTS_TOGETHER:
            db.execute("pragma wal_autocheckpoint = 0").fetchall()
        forks.visit(self.path)

    def data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        with self.looking() as db:
            return int(db.execute("pragma data_version").fetchone()[0])

    def flush(self, *, others: bool = False) -> None:
        """Do nothing: the caller commits."""

    def checkpoint(self, least_bytes: int) -> None:
        """Do nothing: no checkpoint inside a transaction."""

    def check_file(self) -> None:
        """Do nothing: each use looks."""

    def close(self) -> None:
        """Do nothing: the connection is the caller's."""


class _Plain:
    """A connection whose rows are tuples, whatever its owner made of them."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}, /) -> sqlite3.Cursor:
        return self._cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Mapping[str, Any]], /) -> sqlite3.Cursor:
        return self._cursor().executemany(sql, parameters)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = sqlite3.Cursor(self._connection)  # its own `cursor` may be another
        cursor.row_factory = None
        return cursor
