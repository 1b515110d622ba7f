"""Where lines go: a standard stream of the supervisor's, or a file that is turned when full."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import time
from contextlib import suppress
from typing import Final, Protocol

MOST_FILE_BYTES: Final = 10_000_000
KEPT_FILES: Final = 5  # full ones: log.1, the last, to log.5
_ATOMIC_BYTES: Final = select.PIPE_BUF
_PATIENCE_SECONDS: Final = 1.0  # with a reader that takes nothing


class Sink(Protocol):
    """Takes whole lines."""

    def put(self, lines: list[bytes]) -> int:
        """Write *lines*, in order; return how many of the last of them were dropped."""

    def rest(self) -> None:
        """Hold nothing open until the next line."""


class Stream:
    """Standard output or error, which others write to as well.

    A line of up to 4096 bytes is one write, so that theirs are not mixed into it. A reader that is
    gone, or takes nothing for a second, costs lines, never the one who printed them.
    """

    def __init__(self, fd: int):
        self._fd = fd
        self._stuck = False
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            # A description of our own: the others' must not become non-blocking.
            with suppress(OSError):
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
        self._socket = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None

    def put(self, lines: list[bytes]) -> int:
        done = 0
        for count, data in _together(lines):
            if not self._write(data):
                break
            done += count
        return len(lines) - done

    def rest(self) -> None:
        """Keep it: it is not ours to close."""

    def _write(self, data: bytes) -> bool:
        patience = 0 if self._stuck else _PATIENCE_SECONDS
        deadline = time.monotonic() + patience
        while data:
            try:
                data = data[self._once(data[:_ATOMIC_BYTES]) :]
                deadline = time.monotonic() + patience
            except BlockingIOError:
                if not self._await(deadline - time.monotonic()):
                    self._stuck = True
                    return False
            except OSError:
                return False
        self._stuck = False
        return True

    def _once(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._fd, data)

    def _await(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(max(seconds, 0) * 1000))


class LogFile:
    """A file that is turned when it is full: path becomes path.1, path.1 becomes path.2, ...

    What somebody else renamed or deleted is made anew. A line is in one file, whole.
    """

    def __init__(self, path: str):
        self._path = path
        self._fd: int | None = None
        self._failing = False

    def put(self, lines: list[bytes]) -> int:
        data = b"".join(lines)
        try:
            fd = self._open_for(len(data))
            written = os.write(fd, data)
        except OSError as error:
            self._complain(error)
            return len(lines)
        self._failing = False
        return 0 if written == len(data) else _cut_off(lines, written)

    def rest(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _complain(self, error: OSError) -> None:
        """Say it once, until lines are taken again."""
        if not self._failing:
            said = f"brokerrun: {self._path}: what is printed is dropped: {error.strerror}\n"
            with suppress(OSError):
                os.write(2, said.encode(errors="backslashreplace"))
        self._failing = True

    def _open_for(self, more: int) -> int:
        if self._fd is not None and not self._there(self._fd):
            self.rest()
        if self._fd is None:
            self._fd = self._open()
        size = os.fstat(self._fd).st_size
        if size and size + more > MOST_FILE_BYTES and self._may_turn(self._fd):
            self._turn()
            self.rest()
            self._fd = self._open()
        return self._fd

    def _may_turn(self, fd: int) -> bool:
        """Have the turning to ourselves until *fd* is closed; False where another does it now.

        Another supervisor may write to the same path.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._there(fd)

    def _there(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(fd))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def _turn(self) -> None:
        for number in range(KEPT_FILES, 0, -1):
            older = f"{self._path}.{number - 1}" if number > 1 else self._path
            with suppress(FileNotFoundError):
                os.replace(older, f"{self._path}.{number}")


def _together(lines: list[bytes]) -> list[tuple[int, bytes]]:
    """Put lines together, up to what one write may hold; a longer one stands alone."""
    groups: list[tuple[int, bytes]] = []
    for line in lines:
        if groups and len(groups[-1][1]) + len(line) <= _ATOMIC_BYTES:
            count, data = groups[-1]
            groups[-1] = (count + 1, data + line)
        else:
            groups.append((1, line))
    return groups


def _cut_off(lines: list[bytes], written: int) -> int:
    """Count the lines that a full disk did not take whole."""
    for number, line in enumerate(lines):
        written -= len(line)
        if written < 0:
            return len(lines) - number
    return 0
