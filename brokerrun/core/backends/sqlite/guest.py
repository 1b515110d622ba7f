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
from brokerrun.core.backends.sqlite.birth import APPLICATION_ID, MIGRATIONS
from brokerrun.core.backends.sqlite.faults import translated
from brokerrun.core.backends.sqlite.lockfile import Lockfile, lockfile_of
from brokerrun.core.settings import Settings
from brokerrun.errors import StoreRefused, UsageError, wrong_kind
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


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
            db.execute("savepoint brokerrun")
            try:
                yield db
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it all
                    db.execute("rollback to brokerrun")
                    db.execute("release brokerrun")
                raise
            db.execute("release brokerrun")

    @contextmanager
    def looking(self) -> Iterator[_Plain]:
        """Be inside the caller's transaction; begin it where the connection is of the kind that
        begins by itself.

        Raises:
            UsageError: There is none, or it is one on another database.
        """
        connection = self._connection
        text, connection.text_factory = connection.text_factory, str
        try:
            with translated(self.path):
                db = _Plain(connection)
                if not connection.in_transaction:
                    self._may_begin()
                self._must_be_ours(db)
                if not connection.in_transaction:
                    db.execute("begin immediate")
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
            same = False
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
        # Two processes that checkpoint at once damage the file, before SQLite 3.51.3.
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
        cursor = self._connection.cursor(sqlite3.Cursor)
        cursor.row_factory = None
        return cursor
