"""Give a queue several connections: each transaction, and each look, has one to itself.

    python examples/python/pool_runner.py BODY...

Threads write the bodies to the queue `pooled` of this folder, through one pool; then they are read
and printed. Queues that share a runner take turns, so this makes none of them faster: a pool is for
statements of your own, which run beside those of the queue. A queue without a runner may be used
by any thread, too.

The rules for runners that it keeps: a transaction belongs to the thread that began it, and what
does not cross a fork (locks, connections, what other threads held) is made anew in the child.

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
from queue import LifoQueue
from typing import Any

from brokerrun import Queue
from brokerrun.ext import SQLiteRunner


class PoolRunner:
    """Lends one of *size* connections for each transaction, and for each statement outside of one.

    Make one for a program: it stays known to the fork of a process.
    """

    def __init__(self, database: str, size: int = 4):
        self._database, self._size = database, size
        self._fill()
        os.register_at_fork(after_in_child=self._fill)

    def _fill(self) -> None:
        self._lent: dict[int, SQLiteRunner] = {}  # to which thread, for its transaction
        self._free: LifoQueue[SQLiteRunner] = LifoQueue()
        for _ in range(self._size):
            self._free.put(SQLiteRunner(self._database))

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        lent = self._lent.get(threading.get_ident())
        if lent is not None:
            return lent.run(sql, params, fetch=fetch)
        runner = self._free.get()
        try:
            return runner.run(sql, params, fetch=fetch)
        finally:
            self._free.put(runner)

    def begin_immediate(self) -> None:
        runner = self._free.get()
        try:
            runner.begin_immediate()
        except BaseException:
            self._free.put(runner)
            raise
        self._lent[threading.get_ident()] = runner

    def commit(self) -> None:
        self._end(SQLiteRunner.commit)

    def rollback(self) -> None:
        self._end(SQLiteRunner.rollback)

    def _end(self, end: Callable[[SQLiteRunner], None]) -> None:
        runner = self._lent.pop(threading.get_ident())
        try:
            end(runner)
        finally:
            self._free.put(runner)

    def close(self) -> None:
        """Close the connections, when no thread uses the pool any more."""
        while not self._free.empty():
            self._free.get().close()


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    with closing(PoolRunner(".broker.db")) as runner:
        queue = Queue("pooled", runner=runner)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(queue.write, sys.argv[1:]))
        for body in queue.read_generator():
            print(body, flush=True)


if __name__ == "__main__":
    main()
