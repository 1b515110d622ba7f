"""The commands that change a running fleet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

import click

from brokerrun.cli.asking import ask_supervisor, config_option, reports
from brokerrun.cli.durations import timeout_option
from brokerrun.errors import NotRunning, UsageError

_REPLY_SECONDS: Final = 5.0  # beyond the time that the supervisor itself waits
_names = click.argument("names", nargs=-1, required=True, metavar="NAME...")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
_timeout = timeout_option("2m", "Longest wait until it is done.")


def _command(function: Callable[..., int]) -> click.Command:
    """Make a command of it that has the options of all of these."""
    for option in (_timeout, _json, config_option):
        function = option(function)
    return click.command()(reports(function))


@_command
@click.option("--now", is_flag=True, help="Kill them; what they hold is given back unburned.")
@_names
def restart(names: tuple[str, ...], now: bool, **more: Any) -> int:
    """Replace the processes of these workers, or one: NAME.1.

    At most a quarter at once, each only when its successor is ready; the old ones finish their
    message, however long it takes. New code comes with `brokerrun reload`.

    Example: brokerrun restart emails thumbnails.2

    Exit status: 0 done, 3 no supervisor runs, 64 no such worker, 124 not done in time; it goes on.
    """
    return _ask("restart", {"names": names, "now": now}, **more)


@_command
@_names
def pause(names: tuple[str, ...], **more: Any) -> int:
    """Let these workers finish what they have in hand, and take nothing more.

    Returns when nothing is in hand. It holds until `resume`, over restarts of the supervisor too.

    Example: brokerrun pause emails

    Exit status: 0 done, 3 no supervisor runs, 64 no such worker, 124 not done in time; it goes on.
    """
    return _ask("pause", {"names": names}, **more)


@_command
@_names
def resume(names: tuple[str, ...], **more: Any) -> int:
    """Let paused workers take messages again.

    Example: brokerrun resume emails

    Exit status: 0 done, 3 no supervisor runs, 64 no such worker, 124 not done in time; it goes on.
    """
    return _ask("resume", {"names": names}, **more)


@_command
@click.argument("names", nargs=-1, metavar="[NAME...]")
def drain(names: tuple[str, ...], **more: Any) -> int:
    """Handle all that these workers' queues hold, then pause them; without a name: then stop all.

    Retries are waited for, messages that a producer delayed are not.

    Example: brokerrun drain emails --timeout 10m

    Exit status: 0 done, 3 no supervisor runs, 64 no such worker, 124 not empty in time: nothing
    was paused.
    """
    return _ask("drain", {"names": names}, until_gone=not names, **more)


@_command
@click.option("--save", is_flag=True, help="Write it into the workers' file, too.")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=NUMBER...")
def scale(changes: tuple[str, ...], save: bool, config: str, **more: Any) -> int:
    """Set how many processes a worker has: NAME=4, or NAME=+2 and NAME=-1.

    No process is restarted; those that are too many finish their message. Without --save it
    holds until the supervisor ends.

    Example: brokerrun scale emails=4 thumbnails=+1 --save

    Exit status: 0 done, 3 no supervisor runs, 64 no such worker or number, 78 the file cannot be
    changed, 124 not done in time; it goes on.
    """
    wanted = dict(map(_change, changes))
    if not save:
        return _ask("scale", {"changes": wanted}, config=config, **more)
    from brokerrun.cli.saving import savable, save_processes

    savable(config, wanted)
    return _ask("scale", {"changes": wanted}, config=config, then=save_processes, **more)


@_command
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--code", is_flag=True, help="Replace every process, changed or not.")
def reload(dry_run: bool, code: bool, **more: Any) -> int:
    """Be what the file and the code say by now; only what changed is replaced.

    The file is checked and the handlers are imported first: where either fails, the workers that
    run go on as they are. Then each process is replaced when its successor is ready. `processes`,
    `paused`, `timeout`, `grace` and `boot_timeout` change without that. Changed code is known by
    the files of the modules that were imported at the start; --code replaces all.

    Example: brokerrun reload --dry-run

    Exit status: 0 done, 3 no supervisor runs, 70 the new code cannot be imported, 78 faults in the
    file, 124 not done in time; it goes on.
    """
    return _ask("reload", {"dry_run": dry_run, "code": code}, show=_plan, **more)


def _change(text: str) -> tuple[str, str]:
    name, equals, number = text.rpartition("=")
    if not (name and equals and number):
        raise UsageError(f"expected NAME=4, NAME=+2 or NAME=-1, got {text!r}")
    return name, number


def _plan(answer: dict[str, Any]) -> None:
    for change in answer["plan"]:
        why = ", ".join([*change["keys"], *(["code"] if change["code"] else [])])
        click.echo(f"{change['worker']}: {change['action']}{f' ({why})' if why else ''}")


def _ask(
    verb: str,
    asked: dict[str, Any],
    *,
    timeout: float,
    config: str,
    as_json: bool,
    until_gone: bool = False,
    then: Callable[[str, dict[str, Any]], None] | None = None,
    show: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> int:
    """Ask, wait for the answer, and print it."""
    from brokerrun.supervisor.config import load

    loaded = load(config)
    request = {"do": verb, "timeout": timeout, "file": os.path.abspath(config), **asked}
    try:
        answer = ask_supervisor(loaded, request, timeout + _REPLY_SECONDS, until_gone=until_gone)
    except NotRunning as error:
        raise NotRunning(f"no supervisor runs for {loaded.instance.database}") from error
    if then is not None:
        then(config, answer["workers"])
    if as_json:
        click.echo(json.dumps(answer))
    else:
        show(answer)
    return 0
