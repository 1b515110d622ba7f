"""A caller's runner as an access to the database.

It gets every statement of the store. What only our own connection can give it forgoes: the
turnstile, late flushes, the closing before a fork, the look whether the log is still the log.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from weakref import WeakValueDictionary

from brokerrun.core.backends.sqlite import forks
from brokerrun.core.backends.sqlite.birth import (
    CHECKPOINTS_TOGETHER,
    MIGRATIONS,
    be_ours,
    has_content,
    is_ours,
    judge,
    migration,
    must_be_new_enough,
)
from brokerrun.core.backends.sqlite.faults import translated
from brokerrun.core.backends.sqlite.lockfile import lockfile_of
from brokerrun.core.backends.sqlite.positional import Positional
from brokerrun.core.backends.sqlite.runner import PAGE_BYTES, Connection
from brokerrun.core.settings import Settings
from brokerrun.errors import OperationalError, StoreBusy, StoreError, StoreGone, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Lives
    from brokerrun.core.sqlrunner import SQLRunner

_STEP = 0.01  # seconds between two tries to begin
_PAGES_EACH = 4  # that a commit writes, roughly


class Through:
    """See `access.Access`. One for each runner, however many queues share it."""

    def __init__(self, runner: SQLRunner, settings: Settings):
        self.runner, self.settings = runner, settings
        self._db = Positional(runner)
        self._lock, self._process = threading.RLock(), os.getpid()
        self._path: str | None = None
        self._file: tuple[int, int] | None = None
        self._lives: Lives | None = None
        self._commits = 0  # since the last checkpoint

    @property
    def path(self) -> str:
        """The file; empty where the database is in memory."""
        if self._path is None:
            with self._mine():
                self._prepare()
        return self._path or ""

    @property
    def openings(self) -> int:
        """Another number in a fork: what the parent watches there is the parent's."""
        return os.getpid()

    @property
    def lockfile(self) -> Lives:
        if self._lives is None:
            self._lives = lockfile_of(self.path) if self.path else _Alone()
        return self._lives

    @contextmanager
    def writing(self, *, late: bool = False) -> Iterator[Positional]:
        """Be inside one transaction of the runner's."""
        with self._mine():
            self._prepare()
            self._begin()
            try:
                self.check_file()
                yield self._db
                self.runner.commit()
            except BaseException:
                self._roll_back()
                raise
        with suppress(StoreError):  # it is committed, whatever becomes of the log
            self._checkpoint_if_long()

    @contextmanager
    def looking(self) -> Iterator[Positional]:
        """Read, each statement as of its own moment."""
        with self._mine():
            self._prepare()
            yield self._db

    def data_version(self) -> int:
        """Return a number that changes when another connection of the runner's, or of others,
        commits."""
        with self.looking() as db:
            return int(db.execute("pragma data_version").fetchall()[0][0])

    def flush(self, *, others: bool = False) -> None:
        """Do nothing: the runner's commits are durable when they are over."""

    def checkpoint(self, least_bytes: int) -> None:
        """Copy the log into the database, on a connection of our own, which knows how to."""
        if self.path and self._log_bytes() >= least_bytes:
            with closing(Connection(self.path, create=False, settings=self.settings)) as own:
                own.checkpoint(least_bytes)

    def check_file(self) -> None:
        """Raise where the path no longer names the file that was found first."""
        with suppress(FileNotFoundError):
            if not self.path or forks.identity(self.path) == self._file:
                return
        raise StoreGone(
            f"{self.path}: the database was deleted, renamed or replaced while it was in use"
        )

    def close(self) -> None:
        """Do nothing: the runner is the caller's."""

    # ------------------------------------------------------------------------------- beginning

    def _prepare(self) -> None:
        """Find the file, and make an empty database ours."""
        if self._path is not None:
            return
        must_be_new_enough()
        places = {name: file for _, name, file in self._db.execute("pragma database_list")}
        if "main" not in places:
            raise UsageError(f"runner: expected rows with texts in them, got {places}")
        path = os.path.realpath(places["main"]) if places["main"] else ""
        forks.must_be_safe(path)
        # A stranger's is refused before anything is made beside it.
        if path and not has_content(path):
            with _turnstile(path, self.settings.busy_timeout):
                be_ours(path, create=True)
        if self._version(path) < len(MIGRATIONS):
            with _turnstile(path, self.settings.busy_timeout):
                self._migrate(path, self._version(path))
        if path:  # ours is made so last
            self._db.execute("pragma journal_mode = wal")
        # Two processes that checkpoint at once damage the file, before that version.
        if sqlite3.sqlite_version_info < CHECKPOINTS_TOGETHER:
            self._db.execute("pragma wal_autocheckpoint = 0")
        if path:
            self._file = forks.identity(path)
            forks.visit(path)
        self._path = path

    def _version(self, path: str) -> int:
        """Return the version of the database; 0 of an empty one; refuse what is not ours."""
        tables = self._number("select count(*) from sqlite_master")  # first: they come together
        ident, version = self._number("pragma application_id"), self._number("pragma user_version")
        if not ident and not tables:
            return 0
        return judge(path or "the database in memory", ident, version)

    def _migrate(self, path: str, version: int) -> None:
        if version == len(MIGRATIONS):
            return
        if not version:
            self._db.execute("pragma auto_vacuum = incremental")
        self._begin()
        try:
            for statement in migration(version):
                self.runner.run(statement)
            self.runner.commit()
        except BaseException:
            self._roll_back()
            raise
        deadline = time.monotonic() + self.settings.busy_timeout
        while path and not is_ours(path):  # it must stand in the file itself: others look there
            if time.monotonic() > deadline:
                raise StoreBusy(f"{path}: others use it while it is made: try again")
            self._db.execute("pragma wal_checkpoint(passive)")
            time.sleep(_STEP)

    def _number(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchall()[0][0])

    def _roll_back(self) -> None:
        """Roll back; what led to it is worth more than what this may raise.

        A commit that failed may have left the transaction open, or SQLite have ended it already.
        """
        with suppress(sqlite3.Error, StoreError):
            self.runner.rollback()

    def _begin(self) -> None:
        """Begin a transaction; try again, within the busy timeout, what may work later."""
        deadline = time.monotonic() + self.settings.busy_timeout
        while True:
            try:
                with translated(self._path or "the database of the runner"):
                    return self.runner.begin_immediate()
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_STEP)

    # --------------------------------------------------------------------------------- the rest

    def _checkpoint_if_long(self) -> None:
        """Checkpoint now and then where the log is long.

        Not by its length alone: it keeps that when it begins anew.
        """
        pages = self.settings.wal_autocheckpoint
        self._commits += 1
        if (
            pages
            and self._commits > pages // _PAGES_EACH
            and self._log_bytes() >= pages * PAGE_BYTES
        ):
            self._commits = 0
            self.checkpoint(0)

    def _log_bytes(self) -> int:
        with suppress(OSError):
            return os.stat(self.path + "-wal").st_size if self.path else 0
        return 0

    @contextmanager
    def _mine(self) -> Iterator[None]:
        if os.getpid() != self._process:  # in a fork: its holder may be a thread of the parent
            forks.must_be_safe(self._path or "")
            self._lock, self._process = threading.RLock(), os.getpid()
        if not self._lock.acquire(timeout=self.settings.busy_timeout):
            raise StoreBusy(
                f"another thread kept the runner for {self.settings.busy_timeout:g} s: try again"
            )
        try:
            with translated(self._path or "the database of the runner"):
                yield
        finally:
            self._lock.release()


class _Alone:
    """Owners' lives where the database is in memory, and nobody else can see it."""

    def __init__(self) -> None:
        self._owners: set[int] = set()

    def begin_life(self, owner: int) -> None:
        self._owners.add(owner)

    def end_life(self, owner: int) -> None:
        self._owners.discard(owner)

    def alive(self, owner: int) -> bool:
        return owner in self._owners

    def occupied(self) -> bool:
        return False

    def attend(self) -> None:
        """Do nothing: no supervisor serves a database in memory."""


_known: WeakValueDictionary[int, Through] = WeakValueDictionary()
_making = threading.Lock()


def through(runner: SQLRunner, settings: Settings) -> Through:
    """Return the access of a runner: one for all, since one transaction goes at a time.

    Its waits are bounded by the settings of whoever brought the runner first.
    """
    with _making:  # two accesses of one runner would not take turns
        found = _known.get(id(runner))
        if found is None:
            found = _known[id(runner)] = Through(runner, settings)
        return found


@contextmanager
def _turnstile(path: str, timeout: float) -> Iterator[None]:
    """Let nobody else make the database meanwhile."""
    lockfile = lockfile_of(path) if path else None
    if lockfile is not None:
        lockfile.enter(timeout)
    try:
        yield
    finally:
        if lockfile is not None:
            lockfile.leave()
