from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerrun.supervisor.units import duration, rate, shown, size, span, written

BYTES = [("1KB", 1_000), ("512MB", 512_000_000), ("1GiB", 1 << 30), ("2TB", 2 * 10**12)]
SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def refusal(value: object) -> str:
    with pytest.raises(ValueError, match="expected a duration like '30s', got ") as caught:
        duration(value)
    return str(caught.value)


@given(st.dictionaries(st.sampled_from(list(SECONDS)), st.integers(0, 999), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    text = "".join(f"{parts[unit]}{unit}" for unit in SECONDS if unit in parts)
    assert duration(text) == pytest.approx(sum(n * SECONDS[unit] for unit, n in parts.items()))


@given(st.text(max_size=12) | st.text("0123456789dhms. -", max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert duration(text) >= 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("7d", 604_800), ("0s", 0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@given(st.integers(0, 10**10))
def test_a_duration_that_is_written_is_read_again(milliseconds: int) -> None:
    assert duration(written(milliseconds / 1_000)) == milliseconds / 1_000


@pytest.mark.parametrize("value", [30, 2.5, "30", 0])
def test_a_number_without_a_unit_is_told_to_write_it(value: object) -> None:
    expected = f"expected a duration like '30s', got {value!r}: write the unit"
    assert refusal(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "s", "30 s", " 30s", "30s\n", "-1s", "+1s", "1.5s", "1e3s", "30m1h", "1s1s", "1S", "1w"],
)
def test_text_outside_the_grammar_is_refused(value: object) -> None:
    assert "write the unit" not in refusal(value)


@pytest.mark.parametrize("value", ["٣s", "5 parsecs", "9" * 16 + "s", True, None, ["1s"], {}])
def test_what_is_no_duration_at_all_is_refused(value: object) -> None:
    assert "write the unit" not in refusal(value)


def test_a_duration_ends_at_a_hundred_years() -> None:
    assert duration("36500d") == 36_500 * 86_400
    with pytest.raises(ValueError, match="at most 36500d"):
        duration("36500d1ms")


def test_a_range_is_least_and_most() -> None:
    assert span("50ms..200ms") == (0.05, 0.2)
    assert span("1s..1s") == (1.0, 1.0)


@pytest.mark.parametrize(
    "value", ["1s", "1s..", "..1s", "2s..1s", "0s..1m", "1s...2s", "1s..2s..3s", "1..2", 1, None]
)
def test_what_is_no_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a (range|duration)"):
        span(value)


def test_a_rate_is_a_count_and_seconds() -> None:
    assert rate("5/30s") == (5, 30.0)
    assert rate("0/1m") == (0, 60.0)


@pytest.mark.parametrize("value", ["5", "/30s", "5/", "-1/30s", "5/0s", "5/30", "5/30s/1s", 5])
def test_what_is_no_rate_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a"):
        rate(value)


def test_a_message_shows_a_value_as_toml_has_it_and_never_long() -> None:
    assert shown(True) == "true"
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10_000)) == 60


@pytest.mark.parametrize(("text", "expected"), BYTES)
def test_a_size_is_bytes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("value", [512, "512", "512mb", "1.5GB", "MB", "1 GB", "-1GB", True, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size like '512MB' or '1GiB', got "):
        size(value)
