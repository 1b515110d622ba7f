"""What workers.toml writes with a unit: durations and ranges of them, counts in a duration, sizes.

Each function takes a value as TOML gave it and raises ValueError with what would be right.
"""

from __future__ import annotations

import re
from typing import Final

from brokerrun.core.ids import LONGEST_SECONDS

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION: Final = re.compile("".join(rf"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS))
_SIZES: Final[dict[str, int]] = {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", 1)
}
_SIZE: Final = re.compile(rf"([0-9]{{1,6}})({'|'.join(_SIZES)})")
_RATE: Final = re.compile(r"([0-9]{1,9})/(.*)")


def duration(value: object) -> float:
    """Return the seconds of '500ms', '30s', '1h30m', '7d': larger units first, each once."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if found is None:
        raise ValueError(f"expected a duration like '30s', got {shown(value)}{_hint(value)}")
    parts = zip(found.groups(default="0"), _UNITS.values(), strict=True)
    seconds = sum(int(count) * unit for count, unit in parts) / 1_000
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"expected a duration of at most 36500d, got {shown(value)}")
    return seconds


def written(seconds: float) -> str:
    """Write a duration as workers.toml does: the inverse of `duration`."""
    left, text = round(seconds * 1_000), ""
    for unit, length in _UNITS.items():
        number, left = divmod(left, length)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def span(value: object) -> tuple[float, float]:
    """Return least and most seconds of '1s..10m'."""
    if not isinstance(value, str) or value.count("..") != 1:
        raise ValueError(f"expected a range like '1s..10m', got {shown(value)}")
    least, most = map(duration, value.split(".."))
    # A wait doubles from the least one: from 0 it would never grow.
    if not 0 < least <= most:
        raise ValueError(f"expected a range from above 0s up, like '1s..10m', got {shown(value)}")
    return least, most


def rate(value: object) -> tuple[int, float]:
    """Return the count and the seconds of '5/30s'."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected a count in a duration like '5/30s', got {shown(value)}")
    seconds = duration(found[2])
    if seconds == 0:
        raise ValueError(f"expected a duration above 0s after '/', got {shown(value)}")
    return int(found[1]), seconds


def size(value: object) -> int:
    """Return the bytes of '512MB' (thousands) or '1GiB' (1024s)."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"expected a size like '512MB' or '1GiB', got {shown(value)}{_hint(value)}"
        )
    return int(found[1]) * _SIZES[found[2]]


def shown(value: object) -> str:
    """Write *value* as a message shows it: like TOML where that differs, and never long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(value: object) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return ": write the unit" if number or (isinstance(value, str) and value.isdecimal()) else ""
