"""Import every handler in a process of its own, and say what cannot be."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from brokerrun.supervisor.config import Reading
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
