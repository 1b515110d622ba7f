"""What the arguments of a SQLiteQueue may be. All raise ArgumentError or UsageError."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Final, SupportsIndex

from brokerrun.core.ids import GREATEST
from brokerrun.core.meaning import is_number
from brokerrun.errors import UsageError, wrong_kind

_MOST: Final = 1_000_000


def ident_of(message_id: SupportsIndex) -> int:
    """Return the id of a message, also out of a Result."""
    try:
        ident = index(message_id)
    except TypeError:
        raise wrong_kind("message id", "a whole number, or a Result with one", message_id) from None
    if not 0 < ident <= GREATEST:
        raise UsageError(f"message id: expected what enqueue returned, got {ident}")
    return ident


def listed(payloads: Iterable[str]) -> list[str]:
    """Return payloads as a list; one text is none, though it is made of texts."""
    if isinstance(payloads, str) or not isinstance(payloads, Iterable):
        raise wrong_kind("payloads", "a list of texts", payloads)
    return list(payloads)


def whole(what: str, value: int, least: int = 1) -> int:
    """Return a whole number from *least* to a million."""
    if not is_number(value):
        raise wrong_kind(what, "a whole number", value)
    if not least <= value <= _MOST:
        raise UsageError(f"{what}: expected a whole number from {least} to {_MOST}, got {value}")
    return value
