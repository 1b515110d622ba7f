"""A caller's runner as an access to the database.

It gets every statement of the store. What only our own connection can give it forgoes: the
turnstile, late flushes, the closing before a fork, the look whether the log is still the log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from weakref import WeakValueDictionary

from brokerrun.core.backends.sqlite import forks
from brokerrun.core.backends.sqlite.birth import (
    MIGRATIONS,
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
from brokerrun.errors import OperationalError, StoreBusy, StoreGone
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
        self._alone = _Alone()
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
        return lockfile_of(self.path) if self.path else self._alone

    @contextmanager
    def writing(self, *, late: bool = False) -> Iterator[Positional]:
        """Be inside one transaction of the runner's."""
        with self._mine():
            self._prepare()
            self._begin()
            try:
                self.check_file()
                yield self._db
            except BaseException:
                self.runner.rollback()
                raise
            self.runner.commit()
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
        if self.path and _identity(self.path) != self._file:
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
        path = os.path.realpath(places["main"]) if places.get("main") else ""
        # A stranger's is refused before anything is made beside it; an empty file is not touched
        # before nobody else can make it another one.
        if not has_content(path) or self._version(path) < len(MIGRATIONS):
            with _turnstile(path, self.settings.busy_timeout):
                self._migrate(path, self._version(path))
        # Two processes that checkpoint at once damage the file, before SQLite 3.51.3.
        self._db.execute("pragma wal_autocheckpoint = 0")
        self._path, self._file = path, _identity(path)
        if path:
            forks.visit(path)

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
        except BaseException:
            self.runner.rollback()
            raise
        self.runner.commit()
        if not version:  # whose it is must stand in the file itself: others look there first
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma wal_checkpoint(passive)")
        if path and not is_ours(path):
            raise OperationalError(
                f"{path}: another process made the database after the runner had opened an empty "
                "one: let the runner connect again"
            )

    def _number(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchall()[0][0])

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

    def attend(self) -> None:
        """Do nothing: no supervisor serves a database in memory."""


_known: WeakValueDictionary[int, Through] = WeakValueDictionary()


def through(runner: SQLRunner, settings: Settings) -> Through:
    """Return the access of a runner: one for all, since one transaction goes at a time.

    Its waits are bounded by the settings of whoever brought the runner first.
    """
    found = _known.get(id(runner))
    if found is None:
        found = _known[id(runner)] = Through(runner, settings)
    return found


@contextmanager
def _turnstile(path: str, timeout: float) -> Iterator[None]:
    """Let nobody else make the database meanwhile."""
    if path:
        lockfile_of(path).enter(timeout)
    try:
        yield
    finally:
        if path:
            lockfile_of(path).leave()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
