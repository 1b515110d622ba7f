"""The verbs of `brokerrun` that look at a running fleet."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from brokerrun.cli.asking import ask_supervisor, config_option, follow_supervisor, reports
from brokerrun.cli.durations import timeout_option

_FOLLOW_SECONDS = 0.2
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.command()
@config_option
@json_option
@timeout_option("5s")
@reports
def ps(config: str, as_json: bool, timeout: float) -> int:
    """Show the processes of the fleet, one a line: what each has in hand, and for how long.

    Example: brokerrun ps --json | jq 'select(.seconds > 60)'

    Exit status: 0 shown, 3 not running, 124 it did not answer in time.
    """
    from brokerrun.cli.table import show_processes
    from brokerrun.supervisor.config import load

    rows = ask_supervisor(load(config), {"do": "ps"}, timeout)["processes"]
    if as_json:
        _lines(rows)
    else:
        show_processes(rows)
    return 0


@click.command()
@click.argument("worker", metavar="NAME[.SLOT]")
@config_option
@json_option
@timeout_option("5s")
@reports
def stack(worker: str, config: str, as_json: bool, timeout: float) -> int:
    """Show where a running worker is: the Python stack of all its threads.

    The worker goes on unharmed, also from a loop or a C call that keeps the GIL.

    Example: brokerrun stack emails.1

    Exit status: 0 shown, 1 no process of it answered, 3 not running, 64 no such worker, 124 the
    supervisor did not answer in time.
    """
    from brokerrun.cli.table import show_stack
    from brokerrun.supervisor.config import load

    rows = ask_supervisor(load(config), {"do": "stack", "worker": worker}, timeout)["stacks"]
    if as_json:
        _lines(rows)
    else:
        for row in rows:
            show_stack(row)
    return 0 if any(row["stack"] for row in rows) else 1


@click.command()
@config_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 10_000), default=50, show_default=True, help="How many."
)
@reports
def events(config: str, as_json: bool, follow: bool, lines: int) -> int:
    """Show what happened to the fleets of the database, oldest first: starts, deaths, crash loops,
    timeouts with their stacks.

    They are kept as long as `history` says, the newest ten thousand; also while no supervisor runs.

    Example: brokerrun events -n 1000 --json | jq 'select(.stack)'

    Exit status: 0 shown, 69 no store.
    """
    from brokerrun.cli.happenings import show_event
    from brokerrun.core.backends import open_store
    from brokerrun.supervisor.config import load

    store = open_store(load(config).instance.database, create=False)
    try:
        found = store.events(lines)
        last = max((event.id for event in found or store.events(1)), default=0)
        while True:
            for event in found:
                show_event(event, as_json=as_json)
                last = event.id
            if not follow:
                return 0
            sys.stdout.flush()
            time.sleep(_FOLLOW_SECONDS)
            found = store.events(1_000, after=last)
    finally:
        store.close()


@click.command()
@config_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Go on with each further line.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1_000), default=50, show_default=True, help="How many."
)
@timeout_option("5s")
@reports
def logs(config: str, as_json: bool, follow: bool, lines: int, timeout: float) -> int:
    """Show the newest lines that the supervisor logged, as it logged them.

    What workers log and handlers print is not among them.

    Example: brokerrun logs -f

    Exit status: 0 shown, or it ended; 3 not running, 124 it did not answer in time.
    """
    from brokerrun.cli.happenings import show_log_line
    from brokerrun.supervisor.config import load

    request = {"do": "logs", "lines": lines, "follow": follow}
    for answer in follow_supervisor(load(config), request, timeout):
        for line in answer["lines"]:
            show_log_line(line, as_json=as_json)
        if not answer["more"]:
            break
    return 0


def _lines(rows: list[Any]) -> None:
    for row in rows:
        click.echo(json.dumps(row))
