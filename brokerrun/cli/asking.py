"""What the commands share that ask a running supervisor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import click

from brokerrun.errors import BrokerrunError, ConfigError, NotRunning

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
    """Ask the supervisor of a file: at the place that our surroundings say, else at the one that
    its row in the store says, since a login, cron and systemd each have their own."""
    from brokerrun.supervisor.control import ask, socket_path
    from brokerrun.supervisor.status import instance_of

    spec = config.instance
    with suppress(NotRunning):
        here = socket_path(spec.runtime_dir, spec.database, spec.name)
        return ask(here, request, timeout, until_gone=until_gone)
    instance = instance_of(config)
    if instance is None:
        raise NotRunning(f"no supervisor runs for {spec.database}")
    return ask(instance.socket, request, timeout, until_gone=until_gone)
