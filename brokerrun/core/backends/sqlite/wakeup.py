"""Sleeping until the log of a database is written to: inotify where it is, else in short steps."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from collections.abc import Sequence

_IN_MODIFY = 0x2
_IN_ATTRIB = 0x4  # its links changed, among others
_IN_GONE = 0x400 | 0x800  # it was deleted, it was moved
_IN_IGNORED = 0x8000  # the kernel ended the watch with the file
_EVENT = struct.Struct("iIII")  # the name of a file is never told to a watch on the file itself
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class LogWatch:
    """Tells when the log of a database is written to, or the database gone.

    Where the kernel tells it: see `hears`. That it was unlinked is heard of the database, not of
    the log: whenever root opens that, SQLite gives it its owner anew, and all who wait would wake.

    lost: Whether the log is gone, or was not there; another watch may find the next one.
    heard: Whether the last `wait` ended because of that.
    """

    def __init__(self, database: str):
        self._fd = _inotify(
            {database + "-wal": _IN_MODIFY | _IN_GONE, database: _IN_ATTRIB | _IN_GONE}
        )
        self.heard = False
        self.lost = self._fd is None and sys.platform.startswith("linux")

    def wait(self, timeout: float, fds: Sequence[int] = ()) -> bool:
        """Sleep until the log is written to, one of *fds* can be read, or *timeout* seconds.

        Returns:
            Whether one of *fds* can be read.
        """
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        if self._fd is not None:
            poll.register(self._fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(timeout, 0) * 1000)]
        self.heard = self._fd in ready
        if self.heard:
            self.drain()
        return any(fd in ready for fd in fds)

    def sleep(self, seconds: float, fds: Sequence[int] = ()) -> bool:
        """Sleep, deaf to the log; tell whether one of *fds* can be read."""
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def drain(self) -> bool:
        """Take what the kernel told since; return whether that was anything."""
        if self._fd is None:
            return False
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return False
        masks = (mask for _, mask, _, _ in _EVENT.iter_unpack(events))
        self.lost = any(mask & _IN_IGNORED for mask in masks)
        return True

    @property
    def hears(self) -> bool:
        """Whether the kernel tells of writes."""
        return self._fd is not None

    def close(self) -> None:
        """Stop watching."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


def _inotify(wanted: dict[str, int]) -> int | None:
    """Watch the files of those paths for the events wanted of each; None where one cannot be."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(_IN_NONBLOCK_CLOEXEC)
    if fd < 0:
        return None
    for path, mask in wanted.items():
        if libc.inotify_add_watch(fd, os.fsencode(path), mask) < 0:
            os.close(fd)
            return None
    return int(fd)
