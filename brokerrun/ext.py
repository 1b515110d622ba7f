"""The door for extensions: runners that carry a queue's statements, ids, and their errors.

    class LoggingRunner:
        def __init__(self, inner): self.inner = inner
        def run(self, sql, params=(), *, fetch=False):
            log.debug("%s", sql)
            return self.inner.run(sql, params, fetch=fetch)
        ...

    Queue("orders", runner=LoggingRunner(SQLiteRunner("my.db")))

A runner may raise errors of `sqlite3` or those from here.
"""

from __future__ import annotations

from brokerrun.core.activity import ActivityWaiter
from brokerrun.core.backends import open_store
from brokerrun.core.backends.sqlite.sqliterunner import SetupPhase, SQLiteRunner
from brokerrun.core.ids import parse_bound, parse_id
from brokerrun.core.settings import settings_for
from brokerrun.core.sqlrunner import SQLRunner
from brokerrun.errors import (
    BrokerrunError,
    DataError,
    IntegrityError,
    MessageError,
    OperationalError,
    QueueNameError,
    TimestampError,
)

__all__ = [
    "ActivityWaiter",
    "BrokerError",
    "DataError",
    "IntegrityError",
    "MessageError",
    "OperationalError",
    "QueueNameError",
    "SQLRunner",
    "SQLiteRunner",
    "SetupPhase",
    "TimestampError",
    "TimestampGenerator",
]

BrokerError = BrokerrunError


class TimestampGenerator:
    """Gives ids as messages have them, through a runner: unique and growing, whoever asks."""

    def __init__(self, runner: SQLRunner):
        self._store = open_store(runner, settings=settings_for(None))
        self._last: int | None = None

    def generate(self) -> int:
        """Give an id that no message has: all before are smaller, all later ones greater."""
        self._last = self._store.stamp()
        return self._last

    def get_cached_last_ts(self) -> int:
        """Return the newest id that this generator knows of; the first call fetches it."""
        return self.refresh_last_ts() if self._last is None else self._last

    def refresh_last_ts(self) -> int:
        """Fetch the newest id of the database, 0 before the first, without writing."""
        self._last = self._store.newest()
        return self._last

    @staticmethod
    def validate(timestamp_str: str, exact: bool = False) -> int:
        """Read an id, or a time as `broker --after` takes it; *exact*: an id only.

        Raises:
            TimestampError: It is none.
        """
        return parse_id(timestamp_str.strip()) if exact else parse_bound(timestamp_str)
