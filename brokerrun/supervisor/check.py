"""What the file alone does not show: handlers that cannot be imported, aliases that are missing."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from brokerrun.core.broker import Broker
from brokerrun.errors import AliasError
from brokerrun.supervisor.config import Fault, Reading, dotted
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.templates import Common, Template, by_surroundings

_IMPORT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Imports:
    """What came of the imports that share a process.

    faults: What cannot be imported, by worker.
    unsafe: Why nothing may be forked from what they left.
    """

    workers: list[str]
    faults: list[tuple[str, str]]
    unsafe: list[str]


def import_faults(reading: Reading) -> list[tuple[str, str]]:
    """List what cannot be imported, by worker; also where the file has other faults."""
    return [fault for imports in import_all(reading) for fault in imports.faults]


def import_all(reading: Reading) -> Iterator[Imports]:
    """Import everything as `up` would."""
    common = Common(reading.folder, reading.preload)
    if reading.config is not None:
        spec = reading.config.instance
        common = replace(common, database=spec.database, start=spec.start)
    for group in by_surroundings(reading.handlers):
        template = Template(group, common)
        try:
            faults = _await(template, _IMPORT_SECONDS)
            unsafe = template.imported.unsafe if template.imported else []
            yield Imports(template.workers, faults, unsafe)
        finally:
            template.close()
            with suppress(ProcessLookupError):
                os.killpg(template.pid, signal.SIGKILL)
            os.waitpid(template.pid, 0)


def placed(reading: Reading, faults: list[tuple[str, str]]) -> list[Fault]:
    """Give each import fault its line."""
    return [
        Fault(reading.line_of(worker, "handler"), dotted(("workers", worker, "handler")), reason)
        if worker
        else Fault(reading.lines.of(("brokerrun", "preload")), "brokerrun.preload", reason)
        for worker, reason in faults
    ]


def alias_faults(config: Config) -> list[tuple[str, str]]:
    """List the schedules whose queue is an alias that is not defined, and why not."""
    faults = []
    meant = [spec for spec in config.schedules if spec.queue.startswith("@")]
    with Broker(config.instance.database, create=False) as broker:
        for spec in meant:
            try:
                broker.resolve(spec.queue)
            except AliasError as error:
                faults.append((spec.name, str(error)))
    return faults


def _await(template: Template, within: float) -> list[tuple[str, str]]:
    deadline = time.monotonic() + within
    with selectors.DefaultSelector() as selector:
        selector.register(template, selectors.EVENT_READ)
        while template.imported is None:
            left = deadline - time.monotonic()
            if not selector.select(max(left, 0)):
                return [(template.importing or "", f"the import took over {within:g} s")]
            if not template.read():
                break
    return template.faults()
