"""The values of options: durations, counts, priorities."""

from __future__ import annotations

from brokerrun.core.broker import GREATEST_PRIORITY
from brokerrun.errors import UsageError


def seconds(what: str, value: object, default: float) -> float:
    """Return the seconds of a duration like '30s', or the default where none is given.

    Raises:
        UsageError: It is none; *what* names the option.
    """
    if value is None:
        return default
    from brokerrun.supervisor.units import duration

    try:
        return duration(value)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def some_seconds(what: str, value: object, default: float) -> float:
    """Return the seconds of a duration as `seconds` does, but above 0.

    Raises:
        UsageError: It is none, or 0.
    """
    found = seconds(what, value, default)
    if found == 0:
        raise UsageError(f"{what}: expected a duration above 0s, got {value!r}")
    return found


def count(what: str, value: str | None, default: int) -> int:
    """Return a whole number of at least 1, or the default where none is given.

    Raises:
        UsageError: It is none; *what* names the option.
    """
    if value is None:
        return default
    if value.isascii() and value.isdigit() and 0 < int(value) <= 1_000_000:
        return int(value)
    raise UsageError(f"{what}: expected a number from 1 to 1000000, got {value!r}")


def priority_of(value: object) -> int:
    """Return a priority: a whole number, 0 where none is given.

    Raises:
        UsageError: It is none, or too great.
    """
    text = "0" if value is None else str(value)
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 10:
        number = int(text)
        if abs(number) <= GREATEST_PRIORITY:
            return number
    raise UsageError(
        f"priority: expected a whole number of at most {GREATEST_PRIORITY} either way, got {text!r}"
    )
