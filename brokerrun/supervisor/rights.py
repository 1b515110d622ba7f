"""What the file asks for and this process may not do, here and now.

Asked before workers are started, not when the file is read: an operator without these rights may
still ask how the workers are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import NamedTuple

from brokerrun.supervisor.cpu import groups_fault
from brokerrun.supervisor.spec import Config, WorkerSpec


class Unheld(NamedTuple):
    """A key of a worker that cannot be held, and why."""

    worker: str
    key: str
    reason: str


def unheld(config: Config) -> list[Unheld]:
    """List what cannot be held here."""
    return [Unheld(spec.name, key, reason) for spec in config.workers for key, reason in _of(spec)]


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
