"""`brokerrun status` for people: aligned columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.supervisor.looks import ProcessRow, StackRow
    from brokerrun.supervisor.status import Status, WorkerRow


def show_status(status: Status, *, as_json: bool) -> None:
    """Print a status, as a table or as one JSON object."""
    if as_json:
        click.echo(json.dumps(status))
        return
    click.echo(_headline(status))
    if status["workers"]:
        click.echo()
        _workers(status["workers"])
        for worker, why in status["spawned"].items():
            click.echo(f"  {worker}: spawned, not forked: {why}")
    click.echo()
    _table(
        "QUEUE READY DELAYED RUNNING DEAD OLDEST",
        [
            (
                row["queue"],
                row["ready"],
                row["delayed"],
                row["running"],
                row["dead"],
                _seconds(row["oldest_seconds"]),
            )
            for row in status["queues"]
        ],
    )
    if status["schedules"]:
        click.echo()
        _table(
            "SCHEDULE QUEUE LAST NEXT",
            [
                (row["schedule"], row["queue"], _instant(row["last_at"]), _instant(row["next_at"]))
                for row in status["schedules"]
            ],
        )
    _others(status)


def _others(status: Status) -> None:
    """Tell who else serves the database, and what nobody holds any more."""
    for row in status["instances"]:
        life = {True: "up", False: "down", None: "unknown"}[row["alive"]]
        click.echo(f"also {row['name']} on {row['host']}: {life}, {row['pid']}, {row['workers']}")
    if status["held"]:
        click.echo(
            f"{status['held']} held by processes that are gone: a supervisor gives them back"
        )


def show_processes(rows: Sequence[ProcessRow]) -> None:
    """Print the processes of a fleet."""
    _table(
        "PROCESS PID PHASE MESSAGE FOR HANDLED FAILED RSS AGE RESTARTS",
        [
            (
                row["process"],
                row["pid"],
                row["phase"],
                row["message"],
                _seconds(row["seconds"]),
                row["handled"],
                row["failed"],
                _megabytes(row["rss_bytes"]),
                _seconds(row["age"]),
                row["restarts"],
            )
            for row in rows
        ],
    )


def show_stack(row: StackRow) -> None:
    """Print one worker's stack under a line that says whose it is."""
    hand = f", message {row['message']} for {_seconds(row['seconds'])}" if row["message"] else ""
    click.echo(f"{row['process']}, pid {row['pid'] or '-'}{hand}")
    for line in (row["stack"] or row["why"] or "").splitlines():
        click.echo(f"  {line}")


def _workers(rows: list[WorkerRow]) -> None:
    _table(
        "WORKER PID STATE MESSAGE FOR HANDLED FAILED RESTARTS RSS",
        [
            (
                f"{row['worker']}.{row['number']}",
                row["pid"],
                _worker_state(row["state"], row["next_start"]),
                row["message"],
                _seconds(row["seconds"]),
                row["handled"],
                row["failed"],
                row["restarts"],
                _megabytes(row["rss_bytes"]),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["state"] in ("backoff", "paused") and row["reason"]:
            click.echo(f"  {row['worker']}.{row['number']}: {row['reason']}")


def _headline(status: Status) -> str:
    since = status["stopped_at"] if status["state"] == "down" else status["started_at"]
    when = f" since {_instant(since)}" if since else ""
    who = f", supervisor {status['pid']}" if status["pid"] else ""
    return f"{status['name']}: {status['state']}{when}{who}, {status['database']}"


def _worker_state(state: str, next_start: float | None) -> str:
    return f"{state} ({next_start:g}s)" if state == "backoff" and next_start else state


def _instant(at: float | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"


def _seconds(value: float | None) -> str | None:
    if value is None:
        return None
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def _megabytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e6:.0f}MB"


def _table(head: str, rows: Sequence[Sequence[object]]) -> None:
    """Print columns: the first to the left, numbers to the right."""
    cells = [head.split(), *[["-" if c is None else str(c) for c in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    numeric = [
        all(isinstance(row[column], int | None) for row in rows) for column in range(len(widths))
    ]
    for row in cells:
        line = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        click.echo("  ".join(line).rstrip())
