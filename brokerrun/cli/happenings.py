"""Events and log lines for people, and as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime

import click

from brokerrun.core.model import FleetEvent
from brokerrun.supervisor.logs import in_logfmt

_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def show_event(event: FleetEvent, *, as_json: bool) -> None:
    """Print one event: a line of facts, and below it the stack that it may have."""
    facts = json.loads(event.facts)
    if as_json:
        if "id" in facts:
            facts["id"] = str(facts["id"])  # of a message: jq 1.6 would round the number
        who = {"instance": event.instance, "host": event.host}
        said = {"event_id": event.id, "at": event.at / 1e9, "event": event.event, **who, **facts}
        click.echo(json.dumps(said))
        return
    stack = facts.pop("stack", "")
    when = f"{datetime.fromtimestamp(event.at / 1e9, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    line = {"timestamp": when, "event": event.event, "instance": event.instance, **facts}
    click.echo(in_logfmt(line))
    for text in stack.splitlines():
        click.echo(f"    {text}")


def show_log_line(line: str, *, as_json: bool) -> None:
    """Print one line as it was logged; in colour only where colour is wanted here too."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or as_json:
        line = _COLOUR.sub("", line)
    click.echo(json.dumps({"line": line}) if as_json else line)
    sys.stdout.flush()
