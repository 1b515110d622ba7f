"""The keys of [schedule.NAME]: for each its parser and its default, once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from brokerrun.core.broker import check_queue
from brokerrun.supervisor.keys import Key, Parse
from brokerrun.supervisor.schedules import CatchUp, Overlap, zone
from brokerrun.supervisor.units import duration, shown

# What cron itself has for these; cronsim knows none of them.
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def timing_fault(said: Mapping[str, object]) -> str | None:
    """Say what is wrong with a table that says neither when to send, or both ways."""
    if "cron" in said and "every" in said:
        return "expected one of the keys 'cron' and 'every', got both"
    if "cron" not in said and "every" not in said:
        return "missing key 'cron' or 'every': expected cron = '0 3 * * *' or every = '15m'"
    return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text in quotes, got {shown(value)}")
    return value


def _cron(value: object, folder: str) -> str:
    from cronsim import CronSim, CronSimError  # only who has such a schedule needs it

    text = _text(value)
    line = _NICKNAMES.get(text.strip().lower(), " ".join(text.split()))
    try:
        found = next(CronSim(line, datetime.now(UTC)), None)
    except CronSimError as error:
        reason = str(error).lower()
        raise ValueError(f"expected a line like '0 3 * * *', got {shown(text)}: {reason}") from None
    if found is None:
        raise ValueError(f"expected a line like '0 3 * * *', got {shown(text)}: no such date comes")
    return line


def _every(value: object, folder: str) -> float:
    seconds = duration(value)
    if seconds < 1:
        raise ValueError(f"expected a duration of at least 1s, got {shown(value)}")
    return seconds


def _timezone(value: object, folder: str) -> str:
    name = _text(value)
    try:
        zone(name)
    except (ValueError, KeyError, OSError):
        raise ValueError(
            f"expected a time zone like 'Europe/Berlin', got {shown(name)}{_hint(name)}"
        ) from None
    return name


def _hint(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = available_timezones()
    if not known:
        return ": this machine has no time zones; install tzdata"
    near = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _queue(value: object, folder: str) -> str:
    return check_queue(_text(value))


def _one_of(kind: type[CatchUp] | type[Overlap]) -> Parse:
    words = ", ".join(repr(member.value) for member in kind)

    def parse(value: object, folder: str) -> CatchUp | Overlap:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"expected one of {words}, got {shown(value)}") from None

    return parse


# One of the first two is said; a queue that is not is called like its schedule.
SCHEDULE: Final[dict[str, Key]] = {
    "cron": Key(_cron),
    "every": Key(_every),
    "timezone": Key(_timezone, "UTC"),
    "queue": Key(_queue),
    "body": Key(lambda value, folder: _text(value), ""),
    "catch_up": Key(_one_of(CatchUp), "once"),
    "overlap": Key(_one_of(Overlap), "skip"),
}
UNSAID: Final = {
    name: None if key.default is None else key.parse(key.default, "")
    for name, key in SCHEDULE.items()
}
