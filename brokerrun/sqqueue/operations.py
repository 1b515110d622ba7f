"""The frame around each operation of a SQLiteQueue: a Result, a count, a line of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from brokerrun.errors import BrokerrunError
from brokerrun.sqqueue.record import Record
from brokerrun.sqqueue.result import EmptyError, QueueError, Result

LOG: Final = logging.getLogger("brokerrun")
LOG.addHandler(logging.NullHandler())  # else Python prints errors where nobody set logging up

Found = TypeVar("Found")
Kind = TypeVar("Kind", bound=QueueError)


class Operations:
    """Does the operations of one queue, and *maintain* after each *threshold* of them.

    threshold: 0 for never.
    """

    def __init__(self, queue: str, record: Record, threshold: int, maintain: Callable[[], object]):
        self._queue, self._record = queue, record
        self._threshold, self._maintain = threshold, maintain

    def do(
        self,
        name: str,
        kind: type[Kind],
        act: Callable[[], Found],
        message: object = None,
        ids: Callable[[Found], object] | None = None,
    ) -> Result[Found, Kind]:
        """Do one, count it and log it; what it raises is an error Result.

        message, ids: Which message it is about; or how its value says so.
        """
        try:
            value = act()
        except BrokerrunError as cause:
            return Result(error=self._failed(name, kind, cause, message))
        count = self._record.done(name)
        LOG.debug("%s: queue=%s id=%s", name, self._queue, ids(value) if ids else message)
        if self._threshold and count % self._threshold == 0:
            self._maintain_now()
        return Result(value)

    def _failed(self, name: str, kind: type[Kind], cause: BrokerrunError, message: object) -> Kind:
        if isinstance(cause, EmptyError) and isinstance(cause, kind):
            LOG.debug("%s: queue=%s is empty", name, self._queue)
            return cause
        self._record.failed(name)
        facts = (name, self._queue, message, cause)
        LOG.error("%s failed: queue=%s id=%s: %s", *facts, exc_info=cause)
        error = kind(f"{name} on {self._queue!r}: {cause}")
        error.__cause__ = cause
        return error

    def _maintain_now(self) -> None:
        """Do what the threshold asks for. A failure is logged: the operation before it was done."""
        try:
            self._maintain()
        except BrokerrunError as error:
            LOG.error("maintenance failed: queue=%s: %s", self._queue, error, exc_info=error)
