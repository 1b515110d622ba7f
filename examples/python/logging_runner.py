"""Wrap the runner of a queue: log each statement with the time that it took.

    python examples/python/logging_runner.py BODY...

It writes each body to the queue `logged` of this folder and reads it again; the statements go to
standard error, the bodies to standard output. A wrapper like this one can count, time or trace as
well; it has no state of its own, so that threads and forks are none of its business: SQLiteRunner
closes its connection before a fork and opens another behind it.

Under kill: nothing is different from a queue without a runner: what `write` returned for is stored,
and a message that was read is gone (at most once).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from brokerrun import Queue
from brokerrun.ext import SQLiteRunner, SQLRunner

log = logging.getLogger("statements")


class LoggingRunner:
    """Hands everything on to *inner*, whose errors and rows go back as they are."""

    def __init__(self, inner: SQLRunner):
        self._inner = inner

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        begun = time.perf_counter()
        try:
            return self._inner.run(sql, params, fetch=fetch)
        finally:
            # Not the parameters: they hold the bodies.
            text = " ".join(sql.split())
            log.info("%.2f ms: %s", (time.perf_counter() - begun) * 1000, text)

    def begin_immediate(self) -> None:
        self._inner.begin_immediate()
        log.info("begin")

    def commit(self) -> None:
        self._inner.commit()
        log.info("commit")

    def rollback(self) -> None:
        self._inner.rollback()
        log.info("rollback")

    def close(self) -> None:
        self._inner.close()


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # A runner is its caller's: a queue that is closed leaves it open.
    with closing(LoggingRunner(SQLiteRunner(".broker.db"))) as runner:
        queue = Queue("logged", runner=runner)
        for body in sys.argv[1:]:
            queue.write(body)
            print(queue.read(), flush=True)


if __name__ == "__main__":
    main()
