"""Ids grow whatever the clock does; bounds are read in every documented form."""

from __future__ import annotations

import pytest

from brokerrun.core.ids import COUNTER_BITS, GREATEST, next_id, now_ns, parse_bound, parse_id
from brokerrun.errors import UsageError

SECOND = 10**9
MOMENT = 1769846400 * SECOND  # 2026-01-31T08:00:00Z


def test_id_is_the_time_with_its_low_bits_free() -> None:
    now = now_ns()
    ident = next_id(0, now)
    assert ident % (1 << COUNTER_BITS) == 0
    assert 0 <= now - ident < 1 << COUNTER_BITS
    assert len(str(ident)) == 19


@pytest.mark.parametrize("clock", [0, MOMENT - SECOND, MOMENT, MOMENT + 1])
def test_id_grows_whatever_the_clock_does(clock: int) -> None:
    assert next_id(MOMENT, clock) > MOMENT


@pytest.mark.parametrize("text", ["1837025672140161024", "0123456789012345678", str(GREATEST)])
def test_nineteen_digits_are_an_id(text: str) -> None:
    assert parse_id(text) == int(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "9999999999999999999",
        "183702567214016102",
        "18370256721401610240",
        "183702567214016102x",
        "1837025672140161_24",
        "\u0661837025672140161024",
        "-837025672140161024",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="invalid message id"):
        parse_id(text)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1769846400", MOMENT),
        ("1769846400s", MOMENT),
        ("1769846400.5", MOMENT + SECOND // 2),
        ("1769846400000", MOMENT),
        ("1769846400000ms", MOMENT),
        (str(MOMENT), MOMENT),
        (f"{MOMENT}ns", MOMENT),
        ("5", 5 * SECOND),
        (" 5 ", 5 * SECOND),
        ("2026-01-31T08:00:00Z", MOMENT),
        ("2026-01-31T08:00:00", MOMENT),
        ("2026-01-31T09:00:00+01:00", MOMENT),
        ("2026-01-31", MOMENT - 8 * 3600 * SECOND),
        ("1960-01-01", 0),
        ("1837025672140161024", 1837025672140161024),
    ],
)
def test_bounds(text: str, bound: int) -> None:
    assert parse_bound(text) == bound


@pytest.mark.parametrize(
    "text",
    ["", "september", "-5", "1e9", "1_000", "2026-13-01", "99999999999999999999", "5m", "\u0661"],
)
def test_bad_bounds_say_what_is_expected(text: str) -> None:
    with pytest.raises(UsageError, match="invalid time"):
        parse_bound(text)
