"""What `brokerrun doctor` looks at: the store, imports, the socket, a supervisor that hangs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from brokerrun.core.backends import examine
from brokerrun.core.findings import Finding, Severity
from brokerrun.core.settings import read_settings
from brokerrun.errors import BrokerrunError, ConfigError, NotRunning, StoreMissing
from brokerrun.supervisor.check import import_all
from brokerrun.supervisor.config import Reading
from brokerrun.supervisor.control import ask, socket_path, wanted_folder
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.status import instance_of

ANSWER_SECONDS = 2.0


def findings(reading: Reading, config: Config) -> list[Finding]:
    """Look at everything; the gravest first. Handlers are imported, in processes of their own."""
    found = examine(config.instance.database, read_settings(os.environ))
    return sorted([*found, *_of_imports(reading), *_of_socket(config), *_of_supervisor(config)])


def _of_imports(reading: Reading) -> Iterator[Finding]:
    for imports in import_all(reading):
        workers = ", ".join(imports.workers)
        for worker, why in imports.faults:
            subject = f"handler of {worker}" if worker else "preload"
            yield Finding(Severity.ERROR, subject, why, "`brokerrun check` names its line")
        for why in imports.unsafe:
            yield Finding(
                Severity.WARNING,
                f"imports of {workers}",
                f"{why}: workers are not forked from that but spawned, which takes longer and "
                "shares no memory",
                "start it, or open it, in the handler's first call",
            )


def _of_socket(config: Config) -> Iterator[Finding]:
    spec = config.instance
    folder = wanted_folder(spec.runtime_dir)
    try:
        place = os.path.dirname(socket_path(spec.runtime_dir, spec.database, spec.name))
    except ConfigError as error:
        advice = "set runtime_dir to a folder of this user's"
        yield Finding(Severity.ERROR, "control socket", str(error), advice)
        return
    if place != folder:
        yield Finding(
            Severity.INFO,
            f"runtime_dir {folder}",
            f"is too long for the address of a socket: it lies in {place}",
            "nothing, or set runtime_dir to a shorter path",
        )


def _of_supervisor(config: Config) -> Iterator[Finding]:
    spec = config.instance
    try:
        instance = instance_of(config)
        if instance is not None:
            ask(instance.socket, {"do": "status"}, ANSWER_SECONDS)
    except StoreMissing:
        return
    except (TimeoutError, NotRunning):
        yield Finding(
            Severity.ERROR,
            f"supervisor {instance.pid if instance else '?'}",
            f"lives and does not answer within {ANSWER_SECONDS:g} s",
            "look at its log; `kill -9` it and start it again: nothing is lost",
        )
    except BrokerrunError as error:
        yield Finding(Severity.ERROR, spec.database, str(error), "name another file")
