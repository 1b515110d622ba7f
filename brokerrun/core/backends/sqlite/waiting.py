"""Sleeping until a queue of the database may have something ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from brokerrun.core.backends.sqlite.rows import SECOND, next_due
from brokerrun.core.backends.sqlite.wakeup import LogWatch
from brokerrun.core.ids import now_ns
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Access

NET = 5.0  # longest sleep, were a notice lost
_STEP = 0.02  # longest sleep where the kernel tells of nothing
_FIRST_LOOK = 0.01  # after a notice whose commit is not to be seen yet
_LATER_LOOK = 0.1  # after one that was most likely of a commit that was seen
_FIRST_PAUSE, _LAST_PAUSE = 0.0001, 0.005  # between looks for the commit of a notice
_LEAST_DEAF, _MOST_DEAF = 0.001, 0.005


class Waiter:
    """Waits for one connection's database."""

    def __init__(self, connection: Access):
        self._connection = connection
        self._step = min(_STEP, connection.settings.max_interval)
        self._watch: LogWatch | None = None
        self._watched = 0  # the opening of the connection whose log is watched
        self._soon = NET  # longest sleep until the next look

    def wait(
        self,
        probe: Callable[[], bool],
        timeout: float,
        fds: Sequence[int] = (),
        stand_back: float = 0.0,
    ) -> bool:
        """Sleep as `Store.wait` and `Store.wait_until` promise."""
        deadline = time.monotonic() + timeout
        deaf, in_vain = _LEAST_DEAF, False
        seen = self._connection.data_version()
        while True:
            watch = self._watching()
            left = deadline - time.monotonic()
            if probe():
                return True
            if left <= 0:
                self._connection.check_file()  # also where the time was over before a look
                return False
            if in_vain:  # the traffic of others: be deaf for a moment
                if watch.sleep(min(deaf + stand_back, left), fds):
                    return False
                deaf, in_vain, before = min(deaf * 2, _MOST_DEAF), False, seen
                if watch.drain():
                    self._soon = self._after_drain()
                seen = self._connection.data_version()
                if seen != before:
                    continue
            longest = min(deadline - time.monotonic(), self._until_due(), self._soon)
            if watch.wait(longest, fds):
                return False
            if watch.heard:
                time.sleep(stand_back)
            before, seen = seen, self._version_after(seen, heard=watch.heard)
            in_vain = seen != before
            self._look_again(watch.heard, in_vain)
            deaf = deaf if in_vain else _LEAST_DEAF
            self._connection.check_file()

    def close(self) -> None:
        """Let the kernel's watch go; a later wait takes a new one."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _watching(self) -> LogWatch:
        """Watch the log of the open connection. After a fork it is another file, in parent and
        child, and they may not share the descriptor: each would hear half.
        """
        openings = self._connection.openings
        if self._watch is None or self._watch.lost or self._watched != openings:
            self.close()
            self._watch = LogWatch(self._connection.path)
            self._watched, self._soon = openings, _FIRST_LOOK
        return self._watch

    def _until_due(self) -> float:
        """Return the seconds until a delayed message or the end of a lease, at most the net."""
        net = NET if self._watching().hears else self._step
        with self._connection.looking() as db:
            return min(max(next_due(db) - now_ns(), 0) / SECOND, net)

    def _after_drain(self) -> float:
        """Choose when to look although what was heard may all be of the commit that was seen.

        One of the next may be among it. Where nobody is in the turnstile that is of somebody who
        never is, with a connection of the caller's: seldom, and not worth a look each time.
        """
        return _FIRST_LOOK if self._connection.lockfile.occupied() else _LATER_LOOK

    def _look_again(self, heard: bool, seen: bool) -> None:
        """Choose after how long to look although nothing is heard.

        A commit that its writer flushes itself is to be seen only after that, however long it
        takes: what was heard, or came before the watch, was its write.
        """
        if seen:
            self._soon = NET
        else:
            self._soon = _FIRST_LOOK if heard else min(self._soon * 2, NET)

    def _version_after(self, seen: int, *, heard: bool) -> int:
        """Look once, or after a notice until its commit is there: the write precedes it."""
        version, pause = seen, _FIRST_PAUSE
        while heard and version == seen and pause < _LAST_PAUSE:
            time.sleep(pause)
            version, pause = self._connection.data_version(), pause * 2
        return version if heard else self._connection.data_version()
