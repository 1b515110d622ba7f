"""Forks: no connection of ours is open in a process at the moment it forks.

A child of a process that held the file open takes no lock of its own, and loses its commits.
https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
What could not be closed is a state that later uses in the child find, never an exception in the
hook: Python prints those and forks all the same.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress

from brokerrun.core.backends.sqlite.lockfile import BUSY_TIMEOUT, all_lockfiles, forget_lookups
from brokerrun.errors import ForkUnsafe, StoreError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Handle(Protocol):
        """What a connection does about a fork."""

        def before_fork(self, deadline: float) -> tuple[bool, bool]: ...
        def after_fork(self, *, child: bool, locked: bool, still_open: bool) -> None: ...
        def close(self) -> None: ...


HOOK_SECONDS = BUSY_TIMEOUT  # the longest wait of one fork
Identity = tuple[int, int]  # device and inode


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
_making = threading.RLock()  # held over a fork: no connection comes to be meanwhile
_orphans: list[Handle] = []  # dropped while open
_left_open: set[Identity] = set()  # files on which a connection of ours stays open for good
_visited: set[Identity] = set()  # files on which callers had connections of their own
_inherited: set[Identity] = set()  # what was open when this process was forked
_unsafe: set[Identity] = set()  # files that were open when this process was forked
_forking = threading.local()  # two threads may fork at once


def register(handle: Handle) -> None:
    """Know a connection from its making on."""
    with _making:
        _handles.add(handle)


def adopt(handle: Handle) -> None:
    """Keep a connection that was dropped while open, until `close_orphans`."""
    _orphans.append(handle)


def close_orphans() -> None:
    """Close what was dropped while open. Not inside the turnstile."""
    while _orphans:
        with suppress(StoreError):
            _orphans.pop().close()


def leave_open(db: sqlite3.Connection, file: Identity) -> None:
    """Let go of a connection without closing it, not even when the interpreter ends."""
    import ctypes  # only here: it costs a command milliseconds

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
    mark_open(file)


def mark_open(file: Identity) -> None:
    """Say that a connection to the file stays open: no child of this process may use it."""
    _left_open.add(file)


def visit(path: str) -> None:
    """Say that a caller has a connection of its own to the file: we cannot close that one."""
    _visited.add(identity(path))


def must_be_safe(path: str, *, brought: bool = False) -> None:
    """Raise where this process was forked while the file was open.

    brought: On a connection of the caller's, which may be the parent's; one of SQLite's that was
        never brought to us is not known otherwise.

    Raises:
        ForkUnsafe: It was.
    """
    with suppress(FileNotFoundError):
        file = identity(path)
        if file in _unsafe or (brought and file in _inherited):
            raise ForkUnsafe(
                f"{path}: this process was forked while a connection to it was open, because a "
                "thread was writing or because the connection is the caller's: start it with "
                "exec, or fork while none is open"
            )


def is_open(path: str) -> bool:
    """Tell whether this process has the file open that is at *path*."""
    return identity(path) in _open_files()


def identity(path: str) -> Identity:
    """Return what tells a file from any other, whatever its name.

    Raises:
        OSError: There is none.
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _before() -> None:
    """Close every connection, and keep it closed until the fork is over."""
    deadline = time.monotonic() + HOOK_SECONDS
    _forking.making = _making.acquire(timeout=HOOK_SECONDS)
    known = {*_handles, *_orphans}
    _forking.handles = [(each, each.before_fork(deadline)) for each in known]
    lockfiles = all_lockfiles()
    _forking.held = [lock for lock in lockfiles if lock.hold(deadline)]


def _after(*, child: bool) -> None:
    global _making
    handles, held = _forking.handles, _forking.held
    if _forking.making:
        _making.release()
    elif child:
        _making = threading.RLock()
    _forking.handles, _forking.held = [], []
    for lockfile in held:
        lockfile.release()
    if child:
        forget_lookups()
        for lockfile in all_lockfiles():
            lockfile.be_forked(held=lockfile in held)
    for handle, (locked, still_open) in handles:
        handle.after_fork(child=child, locked=locked, still_open=still_open)
    if child:
        _inherited.update(_open_files())
        _unsafe.update(_left_open, _visited & _inherited)


def _open_files() -> set[Identity]:
    found: set[Identity] = set()
    for number in os.listdir("/dev/fd"):
        with suppress(OSError):
            status = os.fstat(int(number))
            found.add((status.st_dev, status.st_ino))
    return found


def _close_all() -> None:
    close_orphans()
    for handle in list(_handles):
        with suppress(StoreError):
            handle.close()


os.register_at_fork(
    before=_before,
    after_in_parent=lambda: _after(child=False),
    after_in_child=lambda: _after(child=True),
)
atexit.register(_close_all)
