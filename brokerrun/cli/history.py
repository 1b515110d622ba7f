"""`broker history`: what became of a message's attempts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from signal import Signals

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, EMPTY, as_json, emit
from brokerrun.cli.place import open_broker, read_place
from brokerrun.core.ids import parse_id
from brokerrun.core.model import Attempt
from brokerrun.errors import StoreMissing

_SECOND = 10**9
_HEAD = ("ATTEMPT", "OUTCOME", "WHEN", "TOOK", "PID", "HOST", "ENDED BY")


def history(line: Line) -> int:
    """Print the attempts of a message that did not end in success, oldest first."""
    message = parse_id(line.id or "")
    with open_broker(read_place(line), create=False) as broker:
        try:
            found = broker.history(message)
        except StoreMissing:
            found = []
    emit(map(_as_json, found) if line.json else _table(found))
    return DONE if found else EMPTY


def _as_json(attempt: Attempt) -> str:
    return as_json(
        {
            "id": str(attempt.message),
            "queue": attempt.queue,
            "attempt": attempt.attempt,
            "outcome": attempt.outcome,
            "error": attempt.error,
            "traceback": attempt.traceback,
            "exit_status": attempt.exit_status,
            "signal": attempt.signal,
            "signal_name": None if attempt.signal is None else signal_name(attempt.signal),
            "pid": attempt.pid,
            "host": attempt.host,
            "started_at": _epoch(attempt.started_at),
            "ended_at": _epoch(attempt.ended_at),
        }
    )


def _table(attempts: list[Attempt]) -> Iterator[str]:
    """Yield a head and a row an attempt, its error and traceback indented below it."""
    rows = [_HEAD, *map(_cells, attempts)] if attempts else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
        if number:
            attempt = attempts[number - 1]
            for text in (attempt.error, attempt.traceback):
                yield from ("    " + part for part in (text or "").splitlines())


def _cells(attempt: Attempt) -> tuple[str, ...]:
    return (
        str(attempt.attempt),
        attempt.outcome,
        _when(attempt.started_at or attempt.ended_at),
        _took(attempt.started_at, attempt.ended_at),
        "-" if attempt.pid is None else str(attempt.pid),
        attempt.host or "-",
        _end(attempt),
    )


def _when(instant: int | None) -> str:
    if instant is None:
        return "-"
    return f"{datetime.fromtimestamp(instant // _SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _took(started_at: int | None, ended_at: int | None) -> str:
    if started_at is None or ended_at is None:
        return "-"
    return f"{(ended_at - started_at) / _SECOND:.3f}s"


def _end(attempt: Attempt) -> str:
    if attempt.signal is not None:
        return signal_name(attempt.signal)
    return "-" if attempt.exit_status is None else f"exit {attempt.exit_status}"


def signal_name(number: int) -> str:
    """Name a signal; by its number where it has no name."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _epoch(instant: int | None) -> float | None:
    return None if instant is None else instant / _SECOND
