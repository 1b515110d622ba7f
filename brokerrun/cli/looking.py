"""The verbs of `brokerrun` that look at a running fleet."""

from __future__ import annotations

import json
from typing import Any

import click

from brokerrun.cli.durations import timeout_option
from brokerrun.cli.run import ask_supervisor, config_option, reports

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def add_to(group: click.Group) -> None:
    """Register the verbs of this file."""
    for command in (ps, stack):
        group.add_command(command)


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


def _lines(rows: list[Any]) -> None:
    for row in rows:
        click.echo(json.dumps(row))
