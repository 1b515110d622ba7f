"""What the file asks for and this process may not do, here and now.

Asked before workers are started, not when the file is read: an operator without these rights may
still ask how the workers are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from brokerrun.supervisor.config import Fault, Reading, dotted
from brokerrun.supervisor.cpu import groups_fault
from brokerrun.supervisor.spec import WorkerSpec


def unheld(reading: Reading) -> list[Fault]:
    """List what cannot be held here, each with its line."""
    return [
        Fault(reading.line_of(spec.name, key), dotted(("workers", spec.name, key)), reason)
        for spec in (reading.config.workers if reading.config else ())
        for key, reason in _of(spec)
    ]


def _of(spec: WorkerSpec) -> Iterator[tuple[str, str]]:
    if spec.env_file is not None and spec.env_file.unreadable:
        yield "env_file", spec.env_file.unreadable
    if os.geteuid() != 0:
        if spec.user is not None:
            yield (
                "user",
                f"only root may run a worker as {spec.user.name!r}",
            )
        if spec.nice is not None and spec.nice < os.getpriority(os.PRIO_PROCESS, 0):
            yield "nice", f"only root may be less nice than now, got {spec.nice}"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if spec.limits.files is not None and spec.limits.files > most:
        yield "limits", f"expected at most {most} files, which is our own limit"
    if spec.limits.cpu is not None and (fault := groups_fault()):
        yield "limits", f"cpu cannot be held here: {fault}"
