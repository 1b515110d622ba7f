"""The connection to one database file: opened, guarded, forked and closed by the rules.

What each rule is for stands in the design; the short form: no connection is open while its
process forks; each write passes the turnstile and looks whether the file is still the file;
checkpoints only under the write lock; a commit is flushed after the turnstile, before the caller
is told.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from brokerrun.core.backends.sqlite import forks
from brokerrun.core.backends.sqlite.birth import (
    MIGRATIONS,
    address,
    be_ours,
    must_be_new_enough,
    must_be_there,
    newer,
    refuse_stranger,
)
from brokerrun.core.backends.sqlite.faults import translated
from brokerrun.core.backends.sqlite.forks import Identity, identity
from brokerrun.core.backends.sqlite.lockfile import Lockfile, left, lockfile_of
from brokerrun.core.settings import Settings
from brokerrun.errors import StoreBusy, StoreError, StoreGone

CHECKPOINT_BYTES = 4 * 1024 * 1024  # where a supervisor does it
PAGE_BYTES = 4096


class Connection:
    """A connection that is opened at the first use and again after `close` or a fork.

    Several threads may use it; one at a time is inside.
    """

    def __init__(self, path: str, *, create: bool = True, settings: Settings = Settings()):  # noqa: B008
        self.path = os.path.realpath(path)
        self.create, self.settings, self.busy_timeout = create, settings, settings.busy_timeout
        self._bound_bytes = settings.wal_autocheckpoint * PAGE_BYTES
        # What a begun log keeps is written over, which a disk flushes faster than what grows. Below
        # every bound: a log's length is taken from the size of its file.
        self._kept_bytes = min(self._bound_bytes or CHECKPOINT_BYTES, CHECKPOINT_BYTES) * 9 // 10
        self.lockfile: Lockfile = lockfile_of(self.path)
        self.lock = threading.RLock()
        self.openings = 0
        self._db: sqlite3.Connection | None = None
        self._file: Identity | None = None
        self._wal = -1
        self._wal_file: Identity | None = None
        self._unflushed = self._doubt = self._gone = False
        self._attempted_bytes = 0
        forks.register(self)

    @contextmanager
    def writing(self, *, late: bool = False) -> Iterator[sqlite3.Connection]:
        """Be inside one write transaction.

        It is committed at the end, or rolled back where something was raised, and flushed before
        this returns unless *late*. The wait for the turnstile and SQLite's lock is bounded.
        """
        with self._mine(), translated(self.path):
            db = self._opened()
            self.lockfile.enter(self.busy_timeout)
            try:
                self._be_the_file()
                self._checkpoint_if_due(db)
                self._begin(db)
                try:
                    yield db
                    db.execute("commit")
                except BaseException:
                    if db.in_transaction:
                        db.execute("rollback")
                    raise
            finally:
                self.lockfile.leave()
            self._unflushed = True
            if not late:
                self.flush()

    def _begin(self, db: sqlite3.Connection) -> None:
        """Take SQLite's lock, inside the turnstile: only who passes that by can have it.

        In small steps: the long ones of SQLite's own wait find it taken again, for seconds, where
        somebody who brings a connection writes on and on.
        """
        deadline = time.monotonic() + self.busy_timeout
        db.execute("pragma busy_timeout = 0")
        try:
            while True:
                try:
                    db.execute("begin immediate")
                    return
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > deadline:
                        raise
                time.sleep(0.0002)
        finally:
            db.execute(f"pragma busy_timeout = {int(self.busy_timeout * 1000)}")

    @property
    def _flushes(self) -> bool:
        """Whether a commit is to survive a power cut."""
        return self.settings.sync_mode in ("FULL", "EXTRA")

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Be inside one read transaction: everything in it is seen as of one moment."""
        with self._mine(), translated(self.path):
            db = self._opened()
            db.execute("begin")
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.execute("commit")

    def flush(self, *, others: bool = False) -> None:
        """Make what was committed here, or with *others* by anybody, survive a power cut.

        A flush belongs to the file: one by anybody covers all earlier commits.

        Raises:
            StoreError: It failed, and what of the last commits is on the disk is unknown. Later
                writes go on only after a complete checkpoint.
        """
        with self._mine():
            if not self._flushes:
                return
            if (self._unflushed or others) and self._db is not None:
                try:
                    os.fdatasync(self._wal)
                except OSError as error:
                    self._doubt = True
                    raise StoreError(
                        f"{self.path}: the disk refused to flush ({error.strerror}): "
                        "whether the last message is stored is unknown"
                    ) from error
                self._unflushed = False

    def checkpoint(self, least_bytes: int) -> None:
        """Copy the log into the database where it has at least *least_bytes*."""
        with self._mine(), translated(self.path):
            self._opened()
            if self._wal_bytes() >= least_bytes:
                with self.writing(late=True):  # nothing else in it: the next begins the log anew
                    self._copy_log()

    def data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        with self._mine(), translated(self.path):
            return int(self._opened().execute("pragma data_version").fetchone()[0])

    def close(self) -> None:
        """Close under the turnstile: the last one that closes writes the log back."""
        with self._mine():
            try:
                self._close(self.busy_timeout)
            except StoreError:
                self._abandon()

    # ---------------------------------------------------------------------------------- opening

    def _opened(self) -> sqlite3.Connection:
        if self._gone:
            raise self._was_replaced()
        return self._db or self._open()

    def _open(self) -> sqlite3.Connection:
        must_be_new_enough()
        forks.close_orphans()
        # Before the turnstile, in which the thread in question may be still.
        forks.must_be_safe(self.path)
        if not self.create:
            must_be_there(self.path)
        if not os.path.exists(self.lockfile.path):
            refuse_stranger(self.path)  # before anything is made beside it
        self.lockfile.enter(self.busy_timeout)
        try:
            be_ours(self.path, create=self.create)
            forks.must_be_safe(self.path)
            self._file = identity(self.path)
            db = self._connect()
            try:
                version = db.execute("pragma user_version").fetchone()[0]
                if version > len(MIGRATIONS):  # in the log only: not to be seen from outside
                    raise newer(self.path, version)
                # Before a table was read, the connection holds no lock that keeps the log.
                db.execute("select id from last").fetchone()
                self._wal = os.open(self.path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
            except BaseException:
                db.close()
                raise
            self._wal_file = _identity_of(os.fstat(self._wal))
            self._db = db
            self.openings += 1
            return db
        finally:
            self.lockfile.leave()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            address(self.path, "mode=rw"),
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self.busy_timeout,
            cached_statements=256,
        )
        for pragma in (
            "journal_mode = wal",
            f"synchronous = {'off' if self.settings.sync_mode == 'OFF' else 'normal'}",
            f"cache_size = {-1024 * self.settings.cache_mb}",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {self._kept_bytes}",
            "trusted_schema = off",
            "cell_size_check = on",
        ):
            db.execute(f"pragma {pragma}").fetchall()
        return db

    # ------------------------------------------------------------------------------- the file

    def _be_the_file(self) -> None:
        """Look whether the paths still name what is open. Inside the turnstile."""
        if not self.is_the_file():
            self._gone = True
            self._abandon()
            raise self._was_replaced()

    def check_file(self) -> None:
        """Raise where the paths no longer name what is open."""
        with self._mine():
            self._opened()
            if not self.is_the_file():
                raise self._was_replaced()

    def is_the_file(self) -> bool:
        """Tell whether the paths still name what is open."""
        try:
            return (
                identity(self.path) == self._file and identity(self.path + "-wal") == self._wal_file
            )
        except OSError:
            return False

    def _was_replaced(self) -> StoreGone:
        return StoreGone(
            f"{self.path}: the database was deleted, renamed or replaced while it was in use; "
            "nothing more is written: start again"
        )

    def _wal_bytes(self) -> int:
        return os.fstat(self._wal).st_size

    def _checkpoint_if_due(self, db: sqlite3.Connection) -> None:
        """Checkpoint where nobody else does. Inside the turnstile.

        In a transaction of its own: SQLite begins the log anew in the first transaction that finds
        all of it copied when it begins, so one that copies and then writes never does.
        """
        size, bound = self._wal_bytes(), self._bound_bytes
        if size < bound:
            self._attempted_bytes = 0
        due = bound > 0 and size >= max(bound, self._attempted_bytes)
        due = due and not self.lockfile.attended()
        if not due and not self._doubt:
            return
        self._attempted_bytes = size + bound  # a reader may hold the log up
        self._begin(db)
        try:
            complete = self._copy_log()
        finally:
            db.execute("rollback")
        if self._doubt and not complete:
            raise StoreBusy(f"{self.path}: a failed flush could not be made good; try again")
        self._doubt = False

    def _copy_log(self) -> bool:
        """Checkpoint on a second connection while this one holds the write lock; tell whether
        all of the log was copied.

        SQLite before 3.51.3 corrupts the file where two checkpoint at once. PASSIVE: the other
        kinds would wait for the lock that we hold.
        """
        with self._second_connection() as second:
            busy, log, copied = second.execute("pragma wal_checkpoint(passive)").fetchone()
        return bool(busy == 0 and log == copied)

    @contextmanager
    def _second_connection(self) -> Iterator[sqlite3.Connection]:
        second = self._connect()
        second.execute("pragma busy_timeout = 0")
        try:
            yield second
        finally:
            second.close()

    # --------------------------------------------------------------------------------- leaving

    def _close(self, timeout: float) -> None:
        """Close; raise where the turnstile lets nobody in."""
        if self._db is None:
            return
        if not self.is_the_file():  # and the turnstile would leave its file beside nothing
            self._abandon()
            return
        self.lockfile.enter(timeout)
        try:
            self._be_the_file()
            self._db.close()
            self._forget()
        except (StoreError, sqlite3.Error):
            self._abandon()
        finally:
            self.lockfile.leave()

    def _forget(self) -> None:
        self._db = None
        if self._wal >= 0:
            os.close(self._wal)
            self._wal = -1
        self._unflushed = False

    def _abandon(self) -> None:
        """Let go without closing: a close would take locks away, or delete another's log."""
        if self._db is not None and self._file is not None:
            forks.leave_open(self._db, self._file)
            self._forget()

    @contextmanager
    def _mine(self) -> Iterator[None]:
        if not self.lock.acquire(timeout=self.busy_timeout):
            raise StoreBusy(f"{self.path}: another thread kept it for {self.busy_timeout:g} s")
        try:
            yield
        finally:
            self.lock.release()

    # ------------------------------------------------------------------------------------ fork

    def before_fork(self, deadline: float) -> tuple[bool, bool]:
        """Close, and stay closed until the fork is over; or say that it could not be.

        Returns:
            Whether this thread locked it for the fork, and whether it is still open. Not kept
            here: two threads may fork at once.
        """
        locked = self.lock.acquire(timeout=left(deadline))
        if not locked or (self._db is not None and self._db.in_transaction):
            return locked, True
        try:
            self._close(left(deadline))
        except StoreError:
            return True, True  # it stays open here, and is of no use in the child
        return True, False

    def after_fork(self, *, child: bool, locked: bool, still_open: bool) -> None:
        """Open for use again; in the child of a process that could not close, never."""
        if child and still_open:
            with suppress(OSError):  # a thread may have been opening it: no field names that yet
                forks.mark_open(identity(self.path))
            self._abandon()
            self.lock = threading.RLock()
        elif locked:
            self.lock.release()

    def __del__(self) -> None:
        # Wherever that is: no lock may be taken here. The next one to open or fork closes it.
        if getattr(self, "_db", None) is not None:
            forks.adopt(self)


def _identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
