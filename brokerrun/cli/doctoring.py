"""`brokerrun doctor`: what is wrong with this machine, the imports and the store."""

from __future__ import annotations

import json

import click

from brokerrun.cli.asking import NOT_WELL, config_option, reports
from brokerrun.errors import ConfigError


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding.")
@reports
def doctor(config: str, as_json: bool) -> int:
    """Look for what works and should not be relied on: threads and stores that imports leave, the
    file system, the SQLite, modes, other programs on the database, a supervisor that hangs.

    Nothing is changed. Handlers are imported, in processes of their own.

    Example: brokerrun doctor --json | jq 'select(.severity == "error")'

    Exit status: 0 all is fine (there may be infos), 4 errors or warnings, 78 bad file.
    """
    from brokerrun.core.findings import Severity
    from brokerrun.supervisor.config import read
    from brokerrun.supervisor.doctor import findings

    reading = read(config)
    if reading.config is None:
        raise ConfigError([fault.text(config) for fault in reading.faults])
    found = findings(reading, reading.config)
    for each in found:
        severity = each.severity.name.lower()
        if as_json:
            fields = {"subject": each.subject, "what": each.what, "advice": each.advice}
            click.echo(json.dumps({"severity": severity} | fields))
        else:
            click.echo(f"{severity}: {each.subject}: {each.what}; {each.advice}")
    grave = any(each.severity is not Severity.INFO for each in found)
    if not grave and not as_json:
        click.echo(f"{config}: nothing is wrong")
    return NOT_WELL if grave else 0
