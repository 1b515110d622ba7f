"""A runner as a caller might write it: one connection, closed before a fork."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterable
from typing import Any


class PlainRunner:
    """Runs statements on one connection, which is made at the first use."""

    def __init__(self, path: str):
        self.path = path
        self.closed = 0
        self._db: sqlite3.Connection | None = None
        _runners.add(self)

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        assert isinstance(params, tuple)
        cursor = self.connection.execute(sql, params)
        return cursor.fetchall() if fetch else []

    def begin_immediate(self) -> None:
        self.connection.execute("begin immediate")

    def commit(self) -> None:
        self.connection.execute("commit")

    def rollback(self) -> None:
        self.connection.execute("rollback")

    def close(self) -> None:
        self.closed += 1
        self.let_go()

    def let_go(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=5
            )
            self._db.execute("pragma wal_autocheckpoint = 0")
        return self._db


_runners: weakref.WeakSet[PlainRunner] = weakref.WeakSet()
os.register_at_fork(before=lambda: [runner.let_go() for runner in list(_runners)])
