"""Message ids: 64-bit hybrid time.

An id is the nanoseconds since 1970 of its making with the low 12 bits taken for a counter: 19
digits from 2001 to 2262. It is the primary key, the order and the public name of a message, and
it never changes. Instants are compared with ids as they are: a bound is an id too.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

from brokerrun.errors import TimestampError

COUNTER_BITS = 12
DIGITS = 19
GREATEST = 2**63 - 1
LONGEST_SECONDS = 36_500 * 86_400  # of anything that waits: such an instant is still an id
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(s|ms|ns)?", re.ASCII)
_UNITS = {"s": 10**9, "ms": 10**6, "ns": 1}


def next_id(last: int, now_ns: int) -> int:
    """Make the id that follows *last*.

    It is greater than *last* whatever the clock does: a clock set back never refuses and never
    gives an id again.
    """
    return max(now_ns >> COUNTER_BITS << COUNTER_BITS, last + 1)


def parse_id(text: str) -> int:
    """Read a message id: 19 digits, no more than a signed 64-bit number holds.

    Raises:
        TimestampError: It is none.
    """
    if len(text) == DIGITS and text.isascii() and text.isdigit() and int(text) <= GREATEST:
        return int(text)
    raise TimestampError(
        f"invalid message id {text!r}: expected the 19 digits that -t or --json print"
    )


def parse_bound(text: str) -> int:
    """Read an instant as --after and --before take it.

    A message id or nanoseconds (19 digits, or `ns`), Unix seconds (bare, or `s`), milliseconds
    (13 digits, or `ms`), or an ISO 8601 date or date-time, UTC where it names no zone.

    Returns:
        Nanoseconds since 1970, at least 0: a date before 1970 lies before every message.

    Raises:
        TimestampError: It is none of these, or beyond 64 bits.
    """
    stripped = text.strip()
    match = None if _is_compact_date(stripped) else _NUMBER.fullmatch(stripped)
    bound = _scaled(match[1], match[2]) if match else _iso(stripped, text)
    if bound > GREATEST:
        raise TimestampError(f"invalid time {text!r}: beyond the year 2262")
    return max(bound, 0)


def _scaled(number: str, unit: str | None) -> int:
    whole = number.partition(".")[0]
    if unit is None:  # seconds have 10 digits until 2286; milliseconds stay below 2**44 until 2527
        unit = "s" if len(whole) <= 11 else "ms" if int(whole) < 2**44 else "ns"
    factor = _UNITS[unit]
    fraction = number.partition(".")[2]
    return int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)


def _is_compact_date(text: str) -> bool:
    """Tell 20260131 from eight digits that are no date."""
    if len(text) != 8 or not text.isdigit():
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _iso(stripped: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        if re.fullmatch(r"\d{4}-\d\d-\d\dZ", stripped, re.ASCII):  # a date, in UTC
            return _iso(stripped[:-1], text)
        raise TimestampError(
            f"invalid time {text!r}: expected a message id, an ISO date like 2026-01-31T08:00:00Z, "
            "or a Unix time like 1769846400 or 1769846400000ms"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC is the same
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
    return since // timedelta(microseconds=1) * 1000


def now_ns() -> int:
    """Read the wall clock, in nanoseconds since 1970."""
    return time.time_ns()
