"""The `brokerrun` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any, NoReturn

import click

import brokerrun
from brokerrun.errors import BrokerrunError, ConfigError, NotRunning, WaitTimedOut

USAGE = 64
NOT_WELL = 4
_STATUS_SECONDS = 2.0
_SOON_SECONDS = 0.05
_MINIMAL = """\
# One worker: it takes from the queue "hello". `brokerrun check` explains this file, and
# workers.toml.example of brokerrun shows every key.

[workers.hello]
handler = "hello:hello"
"""
_HANDLER = '''\
"""A first handler: `broker write hello world`, then `brokerrun up --drain`."""


def hello(message):
    print(f"hello, {message}", flush=True)
'''

config_option = click.option(
    "-c",
    "--config",
    default="workers.toml",
    metavar="PATH",
    show_default=True,
    help="The workers' file.",
)


def main() -> NoReturn:
    """Run the command, and leave with its exit status."""
    from brokerrun.cli import ending, looking  # they take what is here

    looking.add_to(cli)
    ending.add_to(cli)
    try:
        status = cli.main(prog_name="brokerrun", standalone_mode=False)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as error:
        error.show()
        status = USAGE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 0
    sys.exit(status or 0)


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


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 failed, 3 not running, 4 not well, 64 usage, 69 no store, "
    "75 already running, 78 bad configuration or handler, 124 waited too long.",
)
@click.version_option(brokerrun.__version__, message="brokerrun %(version)s")
def cli() -> None:
    """Run supervised workers over a durable queue."""


@cli.command()
@config_option
@reports
def init(config: str) -> int:
    """Write a first workers.toml, and a handler beside it.

    Files that are there are left alone.

    Example: brokerrun init && broker write hello world && brokerrun up --drain
    """
    folder = os.path.dirname(config)
    if os.path.exists(config):
        raise ConfigError([f"{config}: is there already; it was left as it is"])
    handler = os.path.join(folder, "hello.py")
    try:
        os.makedirs(folder or ".", exist_ok=True)
        if not os.path.exists(handler):
            with open(handler, "x", encoding="utf-8") as file:
                file.write(_HANDLER)
        with open(config, "x", encoding="utf-8") as file:
            file.write(_MINIMAL)
    except OSError as error:
        raise ConfigError([f"{config}: cannot be written: {error.strerror}"]) from error
    click.echo(f"wrote {config} and {handler}")
    return 0


@cli.command()
@config_option
@reports
def check(config: str) -> int:
    """Look for every fault of the file, and import the handlers in a process of their own.

    Example: brokerrun check -c workers.toml

    Exit status: 0 nothing is wrong, 78 faults, each a line `file:line: key: reason`.
    """
    from brokerrun.supervisor.check import import_faults
    from brokerrun.supervisor.config import read

    reading = read(config)
    faults = list(reading.faults)
    if reading.handlers:
        faults += _placed(reading, import_faults(reading))
    if faults:
        raise ConfigError([fault.text(config) for fault in sorted(faults)])
    workers = reading.config.workers if reading.config else ()
    click.echo(f"{config}: {len(workers)} workers, no faults")
    return 0


@cli.command()
@config_option
@click.option("--drain", is_flag=True, help="Handle all there is, then leave.")
@reports
def up(config: str, drain: bool) -> int:
    """Run the workers of the file in the foreground.

    TERM or Ctrl-C: finish what is in hand within its grace, and give the rest back. Again: at
    once.

    Example: brokerrun up -c /srv/app/workers.toml

    Exit status: 0 stopped or drained, 4 drained but messages died, 69 no store, 75 another one
    runs, 78 bad file or handler.
    """
    from brokerrun.supervisor.config import read
    from brokerrun.supervisor.logs import set_up_logs
    from brokerrun.supervisor.supervisor import Supervisor, Unimportable

    reading = read(config)
    if reading.config is None:
        raise ConfigError([fault.text(config) for fault in reading.faults])
    instance = reading.config.instance
    set_up_logs(instance.log, instance.log_level)
    try:
        return Supervisor(reading.config, drain=drain).run()
    except Unimportable as refused:
        faults = _placed(reading, refused.faults)
        raise ConfigError([fault.text(config) for fault in sorted(faults)]) from refused


@cli.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@reports
def status(config: str, as_json: bool) -> int:
    """Show the workers and their queues; the queues also when no supervisor runs.

    Example: brokerrun status --json | jq .queues

    Exit status: 0 up, 3 not running, 4 degraded, or the supervisor does not answer.
    """
    from brokerrun.cli.table import show_status
    from brokerrun.supervisor.config import load
    from brokerrun.supervisor.status import status_down

    loaded = load(config)
    try:
        found = _soon_or_later(loaded)
    except (NotRunning, WaitTimedOut):
        found = status_down(loaded)
    show_status(found, as_json=as_json)
    return {"down": NotRunning.exit_status, "silent": NOT_WELL, "degraded": NOT_WELL}.get(
        found["state"], 0
    )


def _soon_or_later(config: Any) -> Any:
    """Ask for the status; wait for long only where the supervisor may yet answer."""
    from brokerrun.supervisor.status import is_hung

    try:
        return ask_supervisor(config, {"do": "status"}, _SOON_SECONDS)
    except WaitTimedOut:
        if is_hung(config):
            raise
        return ask_supervisor(config, {"do": "status"}, _STATUS_SECONDS)


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


def _placed(reading: Any, faults: list[tuple[str, str]]) -> list[Any]:
    """Give each import fault its line."""
    from brokerrun.supervisor.config import Fault, dotted

    return [
        Fault(reading.line_of(worker, "handler"), dotted(("workers", worker, "handler")), reason)
        if worker
        else Fault(reading.lines.of(("brokerrun", "preload")), "brokerrun.preload", reason)
        for worker, reason in faults
    ]
