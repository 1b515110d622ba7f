"""`brokerrun export`: what starts the workers on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import click

from brokerrun.cli.asking import config_option, reports
from brokerrun.errors import UsageError

_ANCIENT = 245  # where no systemd says its version: what each that is in use understands
_SECONDS = 5.0
_FORMATS = ["systemd", "cron", "launchd", "procfile"]  # as FORMATS has them


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(_FORMATS))
@config_option
@click.option("--user", "personal", is_flag=True, help="For your session, not for the machine.")
@click.option("--name", metavar="NAME", help="Name of the service.  [default: brokerrun]")
@reports
def export(form: str, config: str, personal: bool, name: str | None) -> int:
    """Write what starts the workers: a unit for systemd, a line for cron, a list for launchd, or
    a Procfile.

    FORMAT is systemd, cron, launchd or procfile. BROKERRUN_* variables that are set now are
    written into it.

    Example: brokerrun export systemd > /etc/systemd/system/brokerrun.service
    """
    from brokerrun.supervisor.config import load
    from brokerrun.supervisor.export import FORMATS, Service

    loaded = load(config)
    instance = loaded.instance
    service = Service(
        name=_service_name(name, instance.name),
        config=loaded,
        python=sys.executable,
        owner=_owner(os.path.dirname(instance.database), loaded.path),
        personal=personal,
        systemd=_systemd_version(),
        environment=_environment(),
    )
    _check([*service.paths, *service.environment.values()])
    click.echo(FORMATS[form](service), nl=False)
    return 0


def _service_name(given: str | None, instance: str) -> str:
    from brokerrun.supervisor.spec import named

    try:
        return named(
            "a service",
            given or ("brokerrun" if instance == "default" else f"brokerrun-{instance}"),
        )
    except ValueError as error:
        raise UsageError(f"--name: {error}") from error


def _environment() -> dict[str, str]:
    """What goes before the file here, made to hold where no shell says it."""
    from brokerrun.supervisor.keys import INSTANCE

    names = [key.variable for key in INSTANCE.values() if key.variable]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _owner(*paths: str) -> str | None:
    """Name who owns the first of those that is there; None for root, who runs it anyway."""
    import pwd

    for path in paths:
        with suppress(OSError):
            uid = os.stat(path).st_uid
            if uid == 0:
                return None
            try:
                return pwd.getpwuid(uid).pw_name
            except KeyError:
                return str(uid)
    return None


def _systemd_version() -> int:
    with suppress(OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        said = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=_SECONDS
        ).stdout
        return int(said.split()[1])
    return _ANCIENT


def _check(texts: list[str]) -> None:
    for text in texts:
        if not text.isprintable():
            raise UsageError(f"{text!r}: expected printable characters: no such file takes others")
