"""The lock file beside a database: the turnstile before each write, and the owners' lives.

The turnstile is two kernel locks in a row, on one file: its flock first, and while that is held,
an open-file-description lock on byte 0. Who holds the first is next for the second, so nobody who
just let go can pass the one that waits. SQLite's own busy wait starves writers for seconds.

An owner lives as long as it holds the lock on the byte of its number. The kernel lets it go when
the process ends, however it ends, and anybody may ask: no pids, no heartbeats.

The locks belong to one open file description, and would let in every thread of the process that
opened it: a mutex stands in front.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from contextlib import suppress
from weakref import WeakValueDictionary

from brokerrun.core.owners import random_bits
from brokerrun.errors import StoreBusy, StoreError

BUSY_TIMEOUT = 5.0  # seconds that anything waits for the write lock
TURNSTILE_BYTE = 0
SUPERVISOR_BYTE = 1
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
_SPINS = 20
_FIRST_STEP, _LEAST_STEP, _MOST_STEP = 20e-6, 400e-6, 2e-3


class Lockfile:
    """The lock file of one database, for all threads of this process.

    Open for as long as somebody has this object, and while an owner lives by it.
    """

    def __init__(self, path: str, database: str):
        self.path, self.database = path, database
        self.mutex, self._opening = threading.Lock(), threading.Lock()
        self._fd: int | None = None
        self._owners: set[int] = set()
        self._attends = False

    def enter(self, timeout: float) -> None:
        """Pass the turnstile: nobody else is inside until `leave`.

        Raises:
            StoreBusy: Somebody stayed inside for *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        if not self.mutex.acquire(timeout=timeout):
            raise self._busy(timeout)
        try:
            while not self._pass(deadline, timeout):
                pass
        except BaseException:
            self.mutex.release()
            raise

    def leave(self) -> None:
        """Let the next one in."""
        try:
            _set(self._open(), TURNSTILE_BYTE, fcntl.F_UNLCK)
        finally:
            self.mutex.release()

    def occupied(self) -> bool:
        """Tell whether somebody is inside, in whichever process."""
        return self.mutex.locked() or _locked(self._open(), TURNSTILE_BYTE)

    def begin_life(self, owner: int) -> None:
        """Hold the lock of *owner* for as long as this process lives, or until `end_life`."""
        if owner not in self._owners:
            _set(self._open(), owner, fcntl.F_WRLCK)
            self._owners.add(owner)
            _living.add(self)

    def end_life(self, owner: int) -> None:
        """Let the lock of *owner* go: what it still holds is anybody's."""
        if owner in self._owners:
            self._owners.discard(owner)
            _set(self._open(), owner, fcntl.F_UNLCK)
            if not self._owners and not self._attends:
                _living.discard(self)

    def alive(self, owner: int) -> bool:
        """Tell whether the owner of that number lives, in whichever process."""
        return owner in self._owners or _locked(self._open(), owner)

    def attend(self) -> None:
        """Say that a supervisor looks after this database, until this process ends."""
        _set(self._open(), SUPERVISOR_BYTE, fcntl.F_RDLCK)
        self._attends = True
        _living.add(self)

    def attended(self) -> bool:
        """Tell whether a supervisor, in another process, looks after this database."""
        return _locked(self._open(), SUPERVISOR_BYTE)

    def hold(self, deadline: float) -> bool:
        """Let no other thread be inside, or open the file, until `release`: a child would share it.

        Returns:
            False where one stayed until *deadline*, in monotonic seconds.
        """
        if not self.mutex.acquire(timeout=left(deadline)):
            return False
        if not self._opening.acquire(timeout=left(deadline)):
            self.mutex.release()
            return False
        return True

    def release(self) -> None:
        """End what `hold` began."""
        self._opening.release()
        self.mutex.release()

    def be_forked(self, *, held: bool) -> None:
        """In a forked child: begin afresh. *held*: nobody was inside."""
        self.forget()
        if not held:  # whoever has them is a thread of the parent
            self.mutex, self._opening = threading.Lock(), threading.Lock()

    def forget(self) -> None:
        """Close our copy: the locks on it are gone, in a forked child all but the parent's."""
        self._owners.clear()
        self._attends = False
        _living.discard(self)
        self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        fd, self._fd = getattr(self, "_fd", None), None
        if fd is not None:
            os.close(fd)

    def _pass(self, deadline: float, timeout: float) -> bool:
        """Take both locks; False where the file that they lie on is no longer the one there."""
        fd = self._open()
        self._take_first(fd, deadline, timeout)
        try:
            self._take_second(fd, deadline, timeout)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
        # After the second lock: compared after the first, two were inside.
        with suppress(FileNotFoundError):
            there, ours = os.stat(self.path), os.fstat(fd)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return True
        self._follow()
        return False

    def _follow(self) -> None:
        """Go over to the file that is there now, with the lives that we hold."""
        owners, attends = set(self._owners), self._attends
        self.forget()
        for owner in owners:
            self.begin_life(owner)
        if attends:
            self.attend()

    # Both wait by polling: a blocking flock has no deadline, and a stopped holder would keep
    # everybody for ever. The first waits in jittered steps, so each that waits has its share;
    # there is only one at the second, which may therefore spin.

    def _take_first(self, fd: int, deadline: float, timeout: float) -> None:
        begun, step = time.monotonic(), _FIRST_STEP
        while True:
            with suppress(BlockingIOError):
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(step * (0.5 + random_bits(16) / 65536))
            now = time.monotonic()
            if now > deadline:
                raise self._busy(timeout)
            step = min(max((now - begun) / 4, _LEAST_STEP), _MOST_STEP)

    def _take_second(self, fd: int, deadline: float, timeout: float) -> None:
        tries = 0
        while True:
            with suppress(BlockingIOError):
                return _set(fd, TURNSTILE_BYTE, fcntl.F_WRLCK)
            tries += 1
            if tries < _SPINS:
                os.sched_yield()
            elif time.monotonic() > deadline:
                raise self._busy(timeout)
            else:
                time.sleep(_FIRST_STEP)

    def _open(self) -> int:
        """Return the one descriptor of this object: a second would keep locks of its own."""
        if self._fd is not None:
            return self._fd
        with self._opening:
            if self._fd is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                try:
                    fd = os.open(self.path, flags, 0o600)
                except OSError as error:
                    raise StoreError(
                        f"{self.path}: cannot open the lock file beside the database: "
                        f"{error.strerror}"
                    ) from error
                self._give_to_owner(fd)
                self._fd = fd
            return self._fd

    def _give_to_owner(self, fd: int) -> None:
        """Where root made it, the lock file belongs to whom the database belongs."""
        if os.geteuid() == 0:
            with suppress(FileNotFoundError):
                database, ours = os.stat(self.database), os.fstat(fd)
                if (database.st_uid, database.st_gid) != (ours.st_uid, ours.st_gid):
                    os.fchown(fd, database.st_uid, database.st_gid)

    def _busy(self, timeout: float) -> StoreBusy:
        return StoreBusy(
            f"{self.database}: another process kept the write lock for {timeout:g} s; try again"
        )


def left(deadline: float) -> float:
    """Return the seconds until a monotonic instant."""
    return max(deadline - time.monotonic(), 0)


def _set(fd: int, byte: int, kind: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


def _locked(fd: int, byte: int) -> bool:
    """Tell whether another open file description holds a lock on that byte."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


_lockfiles: WeakValueDictionary[str, Lockfile] = WeakValueDictionary()
_living: set[Lockfile] = set()  # those that owners live by
_looking_up = threading.RLock()


def lockfile_of(database: str) -> Lockfile:
    """Return the lock file of a database: one object a process and real path."""
    path = os.path.realpath(database)
    with _looking_up:  # two of one path would each know half of the owners
        found = _lockfiles.get(path)
        return found or _lockfiles.setdefault(path, Lockfile(path + ".lock", path))


def forget_lookups() -> None:
    """In a forked child: a thread of the parent may have been in the middle of one."""
    global _looking_up
    _looking_up = threading.RLock()


def all_lockfiles() -> list[Lockfile]:
    """List the lock files that this process knows."""
    return list(_lockfiles.values())
