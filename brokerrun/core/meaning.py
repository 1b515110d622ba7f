"""What the arguments of the library mean: ids, bounds, limits and guarantees, checked once."""

from __future__ import annotations

from brokerrun.core.ids import GREATEST, LONGEST_SECONDS, parse_bound, parse_id
from brokerrun.core.model import Selection
from brokerrun.errors import TimestampError, UsageError, wrong_kind
from brokerrun.values import TYPE_CHECKING

Id = int | str  # as text for those whose integers end at 53 bits
GUARANTEES = ("exactly_once", "at_least_once")

if TYPE_CHECKING:
    from typing import Literal, TypeAlias, TypedDict

    Guarantee: TypeAlias = Literal["exactly_once", "at_least_once"]
    Pair: TypeAlias = tuple[str, int]
    Yes: TypeAlias = Literal[True]
    No: TypeAlias = Literal[False]

    class Moved(TypedDict):
        message: str
        timestamp: int

    class Span(TypedDict, total=False):
        after_timestamp: Id | None
        before_timestamp: Id | None

    class Meant(Span, total=False):
        message_id: Id | None

    class One(TypedDict, total=False):
        exact_timestamp: Id | None

    class Shown(Span, One, total=False): ...

    class Many(Span, total=False):
        delivery_guarantee: Guarantee

    class Each(Many, One, total=False): ...


def selected(
    after: Id | None = None,
    before: Id | None = None,
    ident: Id | None = None,
    *,
    limit: int = 1,
    every: bool = False,
) -> Selection:
    """Build the selection that the arguments mean.

    Raises:
        ArgumentError: One is of a wrong kind.
        UsageError: One is out of bounds, or *ident* was given beside others.
    """
    if not is_number(limit):
        raise wrong_kind("limit", "a number of messages", limit)
    if limit < 1:
        raise UsageError(f"limit: expected at least 1, got {limit}")
    if ident is None:
        return Selection(
            None if every else limit,
            bound("after_timestamp", after),
            bound("before_timestamp", before),
        )
    if after is not None or before is not None:
        raise UsageError("a message id cannot be used with after_timestamp or before_timestamp")
    return Selection(id=read_id(ident))


def one_or_all(
    after: Id | None, before: Id | None, message_id: Id | None, every: bool
) -> Selection:
    """Build the selection of a short form: the first message, that one, or all.

    Raises:
        UsageError: One message and all of them were asked for.
    """
    if every and message_id is not None:
        raise UsageError("message_id means one message: leave all_messages out")
    return selected(after, before, message_id, every=every)


def read_id(ident: Id) -> int:
    """Return a message id given as a number or as its text.

    Raises:
        ArgumentError: It is neither.
        TimestampError: It is out of bounds.
    """
    if isinstance(ident, str):
        return parse_id(ident)
    if not is_number(ident):
        raise wrong_kind("message id", "a number or its text", ident)
    if not 0 <= ident <= GREATEST:
        raise TimestampError(f"message id {ident}: expected the number that a write returned")
    return ident


def check_guarantee(word: str) -> None:
    """Raise where *word* is no delivery guarantee.

    Raises:
        UsageError: It is none.
    """
    if word not in GUARANTEES:
        raise UsageError(f"delivery_guarantee {word!r}: expected one of {', '.join(GUARANTEES)}")


def bound(what: str, given: Id | None) -> int | None:
    """Return a bound of ids; None means none.

    Raises:
        ArgumentError: It is no number and no text.
        TimestampError: The text is no time.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return parse_bound(given)
    if not is_number(given):
        raise wrong_kind(what, "an id, nanoseconds, or a time as text", given)
    return min(max(given, 0), GREATEST)


def is_number(value: object) -> bool:
    """Tell whether *value* is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def seconds(what: str, value: float) -> float:
    """Return a duration above 0, of at most a hundred years.

    Raises:
        ArgumentError: It is no number.
        UsageError: It is out of bounds.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_kind(what, "seconds", value)
    if not 0 < value <= LONGEST_SECONDS:
        most = f"at most {LONGEST_SECONDS}"
        raise UsageError(f"{what}: expected seconds above 0, {most}, got {value}")
    return value
