"""Give a connection a thread of its own: callers hand it their statements, and wait for the rows.

    python examples/python/daemon_runner.py BODY...

Threads write the bodies to the queue `served` of this folder, through one such thread; then they
are read and printed. This is for connections that only the thread that made them may use. A queue
without a runner may be used by any thread.

The rules for runners that it keeps: a transaction belongs to the thread that began it, although
another one carries it out, and what does not cross a fork (locks, threads) is made anew in the
child.

Under kill: nothing is different from a queue without a runner: what `write` returned for is stored,
and a message that was read is gone (at most once).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

from brokerrun import Queue
from brokerrun.ext import SQLiteRunner

T = TypeVar("T")


class DaemonRunner:
    """Has a thread that owns the connection do each call.

    Make one for a program: it stays known to the fork of a process.
    """

    def __init__(self, database: str):
        self._inner = SQLiteRunner(database)  # closes before a fork, and opens again behind it
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)  # started by the first call
        self._turn = threading.RLock()  # of one caller, for the length of its transaction

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        with self._turn:
            return self._ask(lambda: self._inner.run(sql, params, fetch=fetch))

    def begin_immediate(self) -> None:
        self._turn.acquire()
        try:
            self._ask(self._inner.begin_immediate)
        except BaseException:
            self.rollback()  # Ctrl-C ends the wait for the thread, not what it does
            raise

    def commit(self) -> None:
        self._end(self._inner.commit)

    def rollback(self) -> None:
        self._end(self._inner.rollback)

    def _end(self, end: Callable[[], None]) -> None:
        try:
            self._ask(end)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection and end the thread, when no other thread uses it any more."""
        self._ask(self._inner.close)
        self._thread.shutdown()

    def _ask(self, call: Callable[[], T]) -> T:
        return self._thread.submit(call).result()


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    with closing(DaemonRunner(".broker.db")) as runner:
        queue = Queue("served", runner=runner)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(queue.write, sys.argv[1:]))
        for body in queue.read_generator():
            print(body, flush=True)


if __name__ == "__main__":
    main()
