"""Test what uses a queue without a file: a runner in memory that notes, and fails when told to.

    python examples/python/fake_runner.py

It runs its tests with unittest. `take_order` stands for your code. The fake is SQLite itself, so
that the queue behaves as ever; only what is hard to bring about is played.

Under kill: nothing stays, as it should be with tests.
"""

from __future__ import annotations

import sqlite3
import unittest
from collections.abc import Iterable
from typing import Any

from brokerrun import Queue
from brokerrun.ext import IntegrityError, OperationalError


class FakeRunner:
    """A database in memory, for one process.

    notes: What begins and ends, in order.
    failures: What the next transactions begin with: OperationalError for what may work later, which
        the queue tries again until its BROKER_BUSY_TIMEOUT; IntegrityError for a refusal.
    """

    def __init__(self, *failures: Exception):
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.notes: list[str] = []
        self.failures: list[Exception] = list(failures)

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        cursor = self._db.execute(sql, params)
        return cursor.fetchall() if fetch else []

    def begin_immediate(self) -> None:
        self.notes.append("begin")
        if self.failures:
            raise self.failures.pop(0)
        self._db.execute("begin immediate")

    def commit(self) -> None:
        self.notes.append("commit")
        self._db.execute("commit")

    def rollback(self) -> None:
        self.notes.append("rollback")
        self._db.execute("rollback")

    def close(self) -> None:
        self._db.close()


def take_order(queue: Queue, number: int) -> str:
    """Put an order into the queue; return what the customer is told."""
    try:
        queue.write(str(number))
    except OperationalError:
        return "Come back later"
    return "Thank you"


class TakingOrders(unittest.TestCase):
    def setUp(self) -> None:
        self.runner = FakeRunner()
        self.addCleanup(self.runner.close)
        config = {"BROKER_BUSY_TIMEOUT": 50}
        self.queue = Queue("orders", runner=self.runner, config=config)
        self.queue.stats()  # makes the tables
        self.runner.notes.clear()

    def test_an_order_is_in_the_queue(self) -> None:
        assert take_order(self.queue, 17) == "Thank you"
        assert self.queue.read() == "17"

    def test_a_short_lock_is_not_noticed(self) -> None:
        self.runner.failures = [OperationalError("locked")] * 2
        assert take_order(self.queue, 17) == "Thank you"
        assert self.runner.notes == ["begin", "begin", "begin", "commit"]

    def test_a_long_lock_is_told_and_stores_nothing(self) -> None:
        self.runner.failures = [OperationalError("locked")] * 1000
        assert take_order(self.queue, 17) == "Come back later"
        assert "commit" not in self.runner.notes
        assert self.queue.peek() is None

    def test_a_refusal_is_raised_at_once(self) -> None:
        self.runner.failures = [IntegrityError("refused")]
        with self.assertRaises(IntegrityError):  # noqa: PT027
            take_order(self.queue, 17)
        assert self.runner.notes == ["begin"]


if __name__ == "__main__":
    unittest.main()
