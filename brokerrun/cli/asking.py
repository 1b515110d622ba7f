"""What the commands share that ask a running supervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any

import click

from brokerrun.errors import BrokerrunError, ConfigError, NotRunning, WaitTimedOut

NOT_WELL = 4
config_option = click.option(
    "-c",
    "--config",
    default="workers.toml",
    metavar="PATH",
    show_default=True,
    help="The workers' file.",
)


def reports(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command say what it refuses in one sentence, and leave with the error's status."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> int:
        try:
            return command(*arguments, **options)
        except ConfigError as error:
            click.echo(str(error), err=True)
            return error.exit_status
        except BrokerrunError as error:
            click.echo(f"brokerrun: error: {error}", err=True)
            return error.exit_status

    return run


def ask_supervisor(
    config: Any, request: dict[str, Any], timeout: float, *, until_gone: bool = False
) -> Any:
    """Ask the supervisor of a file, as `control.ask` does.

    Raises:
        WaitTimedOut: It did not answer within *timeout* seconds.
    """
    from brokerrun.supervisor.control import ask

    try:
        return _at_its_place(
            config, lambda path: ask(path, request, timeout, until_gone=until_gone)
        )
    except TimeoutError as error:
        raise WaitTimedOut(f"the supervisor did not answer within {timeout:g} s") from error


def follow_supervisor(config: Any, request: dict[str, Any], timeout: float) -> Iterator[Any]:
    """Ask the supervisor of a file, and yield each answer, as `control.follow` does."""
    from brokerrun.supervisor.control import follow

    def begin(path: str) -> tuple[Any, Iterator[Any]]:
        answers = follow(path, request, timeout)
        try:
            return next(answers), answers
        except StopIteration:
            raise NotRunning("the supervisor ended before it answered") from None

    try:
        first, answers = _at_its_place(config, begin)
    except TimeoutError as error:
        raise WaitTimedOut(f"the supervisor did not answer within {timeout:g} s") from error
    yield first
    yield from answers


def _at_its_place(config: Any, call: Callable[[str], Any]) -> Any:
    """Call with the socket that our surroundings say, else with the one that the row in the store
    says, since a login, cron and systemd each have their own."""
    from brokerrun.supervisor.control import socket_path
    from brokerrun.supervisor.status import instance_of

    spec = config.instance
    with suppress(NotRunning):
        return call(socket_path(spec.runtime_dir, spec.database, spec.name))
    instance = instance_of(config)
    if instance is None:
        raise NotRunning(f"no supervisor runs for {spec.database}")
    return call(instance.socket)
