"""Ending a loop: asked for by any thread, by the loop's own handler, or by Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GLANCE_SECONDS = 0.1  # between looks at an event, which wakes no sleeper


class Stop:
    """The wish that a loop ends. It wakes the loop where that sleeps on `fd`.

    No lock of ours is taken: a signal handler may ask, and so may a forked child.

    Args:
        event: One of the caller's: it is looked at, and set when somebody asks here.
    """

    def __init__(self, event: threading.Event | None = None):
        self._event, self._asked = event, False
        self._in_user_code = self._interrupted = False
        self.fd, self._wakes = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._wakes, False)

    def ask(self) -> None:
        """Ask the loop to end."""
        self._asked = True
        self.wake()
        if self._event is not None:
            self._event.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked or (self._event is not None and self._event.is_set())

    def wake(self) -> None:
        """Let the sleeper look again."""
        with suppress(BlockingIOError):
            os.write(self._wakes, b"!")

    def longest(self, seconds: float) -> float:
        """Bound a sleep on `fd`: an event of the caller's is to be seen soon."""
        return seconds if self._event is None else min(seconds, GLANCE_SECONDS)

    def drain(self) -> bool:
        """Hear what woke us, so that it wakes only once; tell whether anything did."""
        try:
            return bool(os.read(self.fd, 65536))
        except BlockingIOError:
            return False

    def sleep(self, seconds: float) -> None:
        """Sleep until somebody wakes us, at most so long; an event may take longer to be seen."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll(self.longest(seconds) * 1000)
        self.drain()

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Let Ctrl-C end the loop between two messages; raise KeyboardInterrupt behind the block.

        Inside `user_code`, and at the second time, it is raised at once. Only in the main thread,
        and where nobody else handles the signal.
        """
        ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if ours:
            signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            if ours and signal.getsignal(signal.SIGINT) == self._interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._interrupted:
            raise KeyboardInterrupt

    @contextmanager
    def user_code(self) -> Iterator[None]:
        """Mark where the code of the user runs."""
        self._in_user_code = True
        try:
            yield
        finally:
            self._in_user_code = False

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._in_user_code or self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._asked = True
        self.wake()

    def __del__(self) -> None:
        # Not before: another thread may be waking us, and the number would be another file's.
        with suppress(AttributeError):
            os.close(self.fd)
            os.close(self._wakes)
