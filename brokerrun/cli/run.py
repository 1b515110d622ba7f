"""The `brokerrun` command."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn, cast

import click

import brokerrun
from brokerrun.cli.asking import NOT_WELL, ask_supervisor, config_option, reports
from brokerrun.errors import AlreadyRunning, ConfigError, NotRunning, WaitTimedOut

USAGE = 64
_STATUS_SECONDS = 2.0
_SOON_SECONDS = 0.02  # three times what 50 clients at once wait for
_ELSEWHERE = {
    verb: module
    for module, verbs in {
        "doctoring": ("doctor",),
        "ending": ("down", "cancel", "wait"),
        "exporting": ("export",),
        "fleet_verbs": ("restart", "scale", "pause", "resume", "drain", "reload"),
        "looking": ("ps", "stack", "events", "logs"),
    }.items()
    for verb in verbs
}
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


def main() -> NoReturn:
    """Run the command, and leave with its exit status."""
    try:
        status = cli.main(prog_name="brokerrun", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as error:
        error.show()
        status = USAGE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:
        _give_up_output()
        status = 0
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _give_up_output()
        click.echo(f"brokerrun: error: standard output: {error.strerror}", err=True)
        status = 1
    sys.exit(status or 0)


def _give_up_output() -> None:
    from brokerrun.cli.output import give_up_output

    give_up_output()


class _Verbs(click.Group):
    """The verbs; one that stands in a file of its own is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"brokerrun.cli.{_ELSEWHERE[cmd_name]}"), cmd_name)
        return cast(click.Command, found)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 failed, 3 not running, 4 not well, 64 usage, 69 no store, "
    "70 crash loop or new code refused, 75 already running, 78 bad configuration or handler, "
    "124 waited too long.",
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
    from brokerrun.supervisor.check import import_faults, placed
    from brokerrun.supervisor.config import read
    from brokerrun.supervisor.rights import unheld

    reading = read(config)
    faults = reading.faults + _undefined(reading)
    if reading.handlers:
        faults += placed(reading, import_faults(reading))
    faults += unheld(reading)
    if faults:
        raise ConfigError([fault.text(config) for fault in sorted(faults)])
    workers = reading.config.workers if reading.config else ()
    click.echo(f"{config}: {len(workers)} workers, no faults")
    return 0


@cli.command()
@config_option
@click.option("--drain", is_flag=True, help="Handle all there is, then leave.")
@click.option("--if-not-running", is_flag=True, help="Leave with 0 where another one runs.")
@click.option("--watch", is_flag=True, help="Reload when handlers or the file change.")
@click.option("-v", "--verbose", is_flag=True, help="Log as the file says, with --drain too.")
@reports
def up(config: str, drain: bool, if_not_running: bool, watch: bool, verbose: bool) -> int:
    """Run the workers of the file in the foreground.

    TERM or Ctrl-C: finish what is in hand within its grace, and give the rest back. Again: at
    once. With --drain and no terminal only errors are logged: for cron, which mails what it reads.

    Example: brokerrun up -c /srv/app/workers.toml

    Exit status: 0 stopped or drained, 4 drained but messages died, 69 no store, 70 a crash loop
    that on_crash_loop or --drain does not wait out, 75 another one runs, 78 bad file or handler.
    """
    # Held until the supervisor hears them: to PID 1 of a container a signal without a handler is
    # no signal, and a stop that came so early would be lost. So would the end of a child.
    _hold_signals()
    _open_standard_streams()

    from brokerrun.supervisor.config import read
    from brokerrun.supervisor.rights import unheld
    from brokerrun.supervisor.slotfile import lock, slots_path

    reading = read(config)
    faults = reading.faults + _undefined(reading)
    if reading.config is None or faults:
        raise ConfigError([fault.text(config) for fault in faults])
    if faults := unheld(reading):
        raise ConfigError([fault.text(config) for fault in sorted(faults)])
    instance = reading.config.instance
    try:  # before anything heavy is imported: cron asks each minute
        slots_fd = lock(slots_path(instance.database, instance.name))
    except AlreadyRunning:
        if if_not_running:
            return 0
        raise
    quiet = drain and not verbose and not sys.stderr.isatty()
    level = "error" if quiet else instance.log_level
    return _supervise(reading, slots_fd, level, drain=drain, watch=watch)


def _supervise(reading: Any, slots_fd: int, log_level: str, *, drain: bool, watch: bool) -> int:
    from dataclasses import replace

    from brokerrun.supervisor.beginning import begin

    config = replace(reading.config, instance=replace(reading.config.instance, log_level=log_level))
    beginning = begin(config, slots_fd)

    from brokerrun.supervisor.check import placed
    from brokerrun.supervisor.logs import set_up_logs
    from brokerrun.supervisor.supervisor import Supervisor
    from brokerrun.supervisor.templates import Unimportable

    set_up_logs(config.instance.log, log_level)
    try:
        return Supervisor(config, beginning, drain=drain, watch=watch).run()
    except Unimportable as refused:
        faults = [fault.text(config.path) for fault in sorted(placed(reading, refused.faults))]
        raise ConfigError(faults + [trace.rstrip() for trace in refused.traces]) from refused
    finally:  # Python takes its handlers down before it ends: one that came then would end us
        _hold_signals()


def _open_standard_streams() -> None:
    """Lead nowhere those that are closed: else a file of ours has that number, and is printed into,
    and each process that we start lacks them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _hold_signals() -> None:
    held = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, held)


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


@cli.command()
@click.argument("name", required=False)
@config_option
@click.option(
    "--next",
    "upcoming",
    default=3,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="How many of the next runs to show.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a schedule.")
@reports
def schedule(config: str, name: str | None, upcoming: int, as_json: bool) -> int:
    """Show the schedules, or one: in words, its last run and the next ones, what was missed.

    Also when no supervisor runs. Notes say what becomes of times that a change of the clock leaves
    out or brings twice.

    Example: brokerrun schedule nightly-report --next 10

    Exit status: 0 done, 64 no such schedule, 78 bad file.
    """
    from brokerrun.cli.schedule import show_schedules
    from brokerrun.supervisor.config import load

    show_schedules(load(config), name, upcoming, as_json=as_json)
    return 0


def _soon_or_later(config: Any) -> Any:
    """Ask for the status; wait for long only where the supervisor may yet answer."""
    from brokerrun.supervisor.status import is_hung

    try:
        return ask_supervisor(config, {"do": "status"}, _SOON_SECONDS)
    except WaitTimedOut:
        if is_hung(config):
            raise
        return ask_supervisor(config, {"do": "status"}, _STATUS_SECONDS)


def _undefined(reading: Any) -> list[Any]:
    """Give each alias of the schedules that is not defined its line."""
    from brokerrun.supervisor.check import alias_faults
    from brokerrun.supervisor.config import Fault, dotted

    found = alias_faults(reading.config) if reading.config else []
    places = [(("schedule", name, "queue"), reason) for name, reason in found]
    return [Fault(reading.lines.of(at), dotted(at), reason) for at, reason in places]
