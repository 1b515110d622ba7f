"""What an operation of a SQLiteQueue gives: its value, or one of these errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any, Generic, SupportsIndex, TypeVar, cast

from brokerrun.errors import BrokerrunError

T_co = TypeVar("T_co", covariant=True)
E_co = TypeVar("E_co", bound="QueueError", covariant=True)


class QueueError(BrokerrunError):
    """An operation of a SQLiteQueue failed; what it ran into is its `__cause__`."""


class EnqueueError(QueueError):
    """Nothing was stored."""


class DequeueError(QueueError):
    """Nothing was taken."""


class EmptyError(DequeueError):
    """Nothing is pending: no failure, and not logged as one."""


class CompletionError(QueueError):
    """The message was not completed."""


class RequeueError(QueueError):
    """The message is where it was."""


class Result(Generic[T_co, E_co]):
    """The value of an operation, or the error that stands in its place.

    It also does what its value does, where that can only mean one thing: it is unpacked, compared,
    hashed, printed and taken for an id like the value. So `message_id, payload = queue.dequeue()`
    works, and so does `queue.complete(queue.enqueue(...))`. Its truth is that of the value, and an
    error is false. What has no value (`complete`, `requeue`, …) is false either way: ask `is_ok`.
    """

    __slots__ = ("_error", "_value")

    def __init__(self, value: T_co | None = None, error: E_co | None = None):
        self._value, self._error = value, error

    def is_ok(self) -> bool:
        """Tell whether the operation was done."""
        return self._error is None

    def is_err(self) -> bool:
        """Tell whether it failed."""
        return self._error is not None

    @property
    def value(self) -> T_co:
        """What came of it. Raises the error where it failed."""
        if self._error is not None:
            raise self._error
        return cast("T_co", self._value)

    @property
    def error(self) -> E_co | None:
        """Why it failed; None where it was done."""
        return self._error

    def __bool__(self) -> bool:
        return self._error is None and bool(self._value)

    def __iter__(self) -> Iterator[Any]:  # Any: the parts of a tuple have types of their own
        return iter(cast("Iterable[Any]", self.value))

    def __index__(self) -> int:
        return index(cast("SupportsIndex", self.value))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Result):
            return self._error is other._error and bool(self._value == other._value)
        return self._error is None and bool(self._value == other)

    def __hash__(self) -> int:
        return hash(self._error or self._value)

    def __str__(self) -> str:
        return str(self._error or self._value)

    def __format__(self, spec: str) -> str:
        return format(self._value if self._error is None else str(self._error), spec)

    def __repr__(self) -> str:
        return f"Result({f'error={self._error!r}' if self._error else repr(self._value)})"
