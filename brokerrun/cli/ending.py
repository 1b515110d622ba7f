"""The verbs of `brokerrun` that end something, or wait for an end."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from brokerrun.cli.asking import ask_supervisor, config_option, reports
from brokerrun.cli.durations import timeout_option
from brokerrun.errors import NotRunning, UsageError, WaitTimedOut

_LOOK_SECONDS = 0.1
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@config_option
@json_option
@click.option("--now", is_flag=True, help="At once: what is in hand goes back, unburned.")
@timeout_option("2m")
@reports
def down(config: str, as_json: bool, now: bool, timeout: float) -> int:
    """Stop the supervisor gracefully, and wait until it is gone.

    Example: brokerrun down -c workers.toml --timeout 5m || brokerrun down --now

    Exit status: 0 it is gone, 3 none ran, 124 it still runs.
    """
    from brokerrun.supervisor.config import load
    from brokerrun.supervisor.processes import await_end

    loaded = load(config)
    try:
        answer = ask_supervisor(loaded, {"do": "down", "now": now}, timeout, until_gone=True)
        await_end(int(answer["pid"]), timeout)
    except NotRunning as error:
        raise NotRunning(f"no supervisor runs for {loaded.instance.database}") from error
    except (TimeoutError, WaitTimedOut) as error:
        raise WaitTimedOut(f"the supervisor still runs after {timeout:g} s") from error
    if as_json:
        click.echo(json.dumps(answer))
    return 0


@click.command()
@click.argument("message", metavar="ID")
@config_option
@json_option
@click.option("--dead", is_flag=True, help="To the dead-letter queue, however many runs are left.")
@timeout_option("10s")
@reports
def cancel(message: str, config: str, as_json: bool, dead: bool, timeout: float) -> int:
    """End the run of a message that a handler has in hand, as if its timeout had passed.

    Its process is ended; the run counts, and the message is tried again as after any failure.
    History says that it was cancelled, and where it was.

    Example: brokerrun cancel 1837025672140161024 --dead

    Exit status: 0 it was ended, 1 no handler has it in hand, 3 not running, 124 it goes on.
    """
    from brokerrun.supervisor.config import load

    if not (message.isascii() and message.isdigit() and len(message) < 20):
        raise UsageError(f"ID: expected the id of a message, got {message!r}")
    request = {"do": "cancel", "id": int(message), "dead": dead}
    done = ask_supervisor(load(config), request, timeout)
    click.echo(json.dumps(done) if as_json else _fate(done))
    return 0


@click.command()
@config_option
@json_option
@click.option("--ready", "what", flag_value="ready", default="ready", help="Each worker is ready.")
@click.option("--idle", "what", flag_value="idle", help="Nothing is in hand, and nothing ready.")
@click.option("--drained", "what", flag_value="drained", help="And no retry is still to come.")
@timeout_option("30s")
@reports
def wait(config: str, as_json: bool, what: str, timeout: float) -> int:
    """Wait until the fleet is ready, idle or drained.

    A supervisor that does not run yet is waited for with --ready only.

    Example: brokerrun up & brokerrun wait --ready && brokerrun wait --drained --timeout 1h

    Exit status: 0 it is so, 3 not running, 124 it was not so in time.
    """
    from brokerrun.supervisor.config import load

    loaded, begun = load(config), time.monotonic()
    while not _holds(loaded, what, begun + timeout):
        if time.monotonic() - begun > timeout:
            raise WaitTimedOut(f"the fleet was not {what} within {timeout:g} s")
        time.sleep(_LOOK_SECONDS)
    if as_json:
        click.echo(json.dumps({"waited": round(time.monotonic() - begun, 3), "for": what}))
    return 0


def _holds(config: Any, what: str, deadline: float) -> bool:
    try:
        left = max(deadline - time.monotonic(), _LOOK_SECONDS)
        answer = ask_supervisor(config, {"do": "holds", "what": what}, left)
        return bool(answer["holds"])
    except NotRunning:
        if what != "ready":
            raise
        return False


def _fate(done: dict[str, Any]) -> str:
    again = f"again in {done['delay']:g} s"
    fate = {"bury": f"to {done['queue']}", "retry": again}.get(done["then"], "dropped")
    return f"message {done['id']} was cancelled in {done['process']}: {fate}"
