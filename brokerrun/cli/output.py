"""How a command speaks and ends: lines out, one sentence on an error, the exit status.

Standard output is data, UTF-8 whatever the locale says; standard error is talk.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import EAGAIN
from types import FrameType

from brokerrun.core.model import Message
from brokerrun.core.states import State
from brokerrun.errors import (
    BrokerrunError,
    MessageError,
    QueueNameError,
    StoreBusy,
    StoreError,
    UsageError,
)
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO, Final

DONE, FAILED, EMPTY = 0, 1, 2
_SECOND: Final = 10**9
_ECHO: Final = 0.5  # seconds within which a second signal says nothing new
_WORDS: Final = (  # first that fits: what --json calls the error, and what helps
    (QueueNameError, "INVALID_QUEUE_NAME", "names are letters, digits, '_', '-' and '.'"),
    (MessageError, "INVALID_MESSAGE", None),
    (UsageError, "INVALID_ARGUMENT", "`broker --help` and `broker COMMAND --help` say what is"),
    (StoreBusy, "BUSY", "try again"),
    (StoreError, "STORE", None),
    (BrokerrunError, "ERROR", None),
)


class OutputError(BrokerrunError):
    """Standard output takes nothing any more; the text says what was not printed."""


class Interrupted(BaseException):
    """A signal ended the command before it was done."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.exit_status = 128 + signum


class Interrupts:
    """SIGINT and SIGTERM end a command, but never between a transaction and what it owes.

    While `held`, a first signal waits; a later one does not. One that follows at once is the same:
    `timeout` sends it to the command, and then to its group.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = 0
        self._arrived_at = -_ECHO

    def install(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # of a shell's background job
                signal.signal(signum, self._arrived)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait until the next `check`; with none, the command was done anyway."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @contextmanager
    def let_in(self) -> Iterator[None]:
        """Within `held`: let signals come, the one that waits first."""
        self._held = False
        try:
            self.check()
            yield
        finally:
            self._held = True

    def check(self) -> None:
        """Raise `Interrupted` if a signal waits: once for each."""
        if self._waiting:
            signum, self._waiting = self._waiting, 0
            raise Interrupted(signum)

    def _arrived(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now < self._arrived_at + _ECHO:
            return
        self._arrived_at = now
        if not self._held or self._waiting:
            raise Interrupted(signum)
        self._waiting = signum


INTERRUPTS: Final = Interrupts()


def require_output() -> None:
    """Refuse before anything is taken that could not be printed.

    Raises:
        OutputError: Standard output is closed.
        BrokenPipeError: Its reader is gone.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed: nothing was done")
    if _reader_gone():
        raise BrokenPipeError


def _reader_gone() -> bool:
    import select

    poll = select.poll()
    poll.register(1, 0)  # always told, of a pipe or of a socket: nobody has the other end open
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def emit(lines: Iterable[str]) -> None:
    """Print lines and flush.

    Raises:
        OSError: They were not printed, or not all of them.
    """
    if sys.stdout is None:
        raise OSError("it is closed")
    for line in lines:
        _write_whole(sys.stdout.buffer, line.encode() + b"\n")
    sys.stdout.buffer.flush()


def _write_whole(out: BinaryIO, line: bytes) -> None:
    """Write all of a line: where Python does not buffer (PYTHONUNBUFFERED), one write may stop
    half-way, on a disk that fills up or after Ctrl-Z and `fg`.
    """
    while (written := out.write(line)) != len(line):
        if written is None:
            raise BlockingIOError(EAGAIN, "it takes nothing now")
        line = line[written:]


def as_line(message: Message, *, json: bool, stamps: bool, now: int) -> str:
    """Show a message as the options ask; *now* tells the delayed ones."""
    if json:
        return as_json(_facts(message, now))
    return f"{message.id}\t{message.body}" if stamps else message.body


def as_json(value: object) -> str:
    """Show a value as one line of JSON."""
    from json import dumps

    return dumps(value, ensure_ascii=False)


def _facts(message: Message, now: int) -> dict[str, object]:
    """What --json says of a message; state, ready_at and attempts only where they say something."""
    facts: dict[str, object] = {
        "message": message.body,
        "timestamp": message.id,
        "id": str(message.id),
    }
    delayed = message.state is State.READY and (message.ready_at or 0) > now
    if message.state is State.LEASED or delayed:
        facts["state"] = "delayed" if delayed else "leased"
        if message.ready_at is not None:
            facts["ready_at"] = message.ready_at / _SECOND
    if message.attempts:
        facts["attempts"] = message.attempts
    if message.priority:
        facts["priority"] = message.priority
    return facts


def why(error: OSError) -> str:
    """Word what the system says of an error."""
    return error.strerror or str(error)


def watched() -> bool:
    """Tell whether a person sees what is said."""
    return sys.stderr is not None and sys.stderr.isatty()


def say(text: str) -> None:
    """Say one line on standard error, whatever state that is in."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except OSError:
            pass


def complain(error: Exception, *, json: bool) -> int:
    """Say what went wrong, also under --quiet; return the exit status."""
    text = "".join(map(_shown, str(error)))
    if json:
        word, hint = next((word, hint) for kind, word, hint in _WORDS if isinstance(error, kind))
        say(as_json({"error": word, "message": text, "hint": hint, "code": FAILED}))
    else:
        say(f"broker: error: {text}")
    return FAILED


def _shown(character: str) -> str:
    """Show a character so that it neither ends a line nor moves a cursor."""
    if character == "\n":
        return " "
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def give_up_output() -> None:
    """Let nothing be flushed to standard output at exit: it would fail again, or wait for ever."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
