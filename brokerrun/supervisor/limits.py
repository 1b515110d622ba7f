"""What one process of a worker may use at most.

memory and files are resource limits of the kernel: they hold without privileges, in the process and
in each that its handler starts. memory counts private memory (RLIMIT_DATA), not what is shared:
what goes beyond it is a MemoryError, which fails the message as any other error does. cpu takes a
control group, and is refused where none can be made: to stop and continue a process instead could
stop it inside a transaction, and everybody else with it.
"""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from typing import Final

from brokerrun.supervisor.units import shown, size

LEAST_MEMORY: Final = 32 * 1024 * 1024  # less, and no worker comes up
LEAST_FILES: Final = 32
MOST_FILES: Final = 1_000_000_000
_KEYS: Final = ("memory", "cpu", "files")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process: bytes, a share of one processor, open files. None: none."""

    memory: int | None = None
    cpu: float | None = None
    files: int | None = None


def limits(value: object) -> Limits:
    """Read { memory = "1GiB", cpu = "50%", files = 1024 }, each of them optional."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a table like {{ memory = '1GiB' }}, got {shown(value)}")
    if unknown := [key for key in value if key not in _KEYS]:
        raise ValueError(f"expected {', '.join(_KEYS)}, got {shown(unknown[0])}")
    return Limits(
        memory=_memory(value["memory"]) if "memory" in value else None,
        cpu=_cpu(value["cpu"]) if "cpu" in value else None,
        files=_files(value["files"]) if "files" in value else None,
    )


def apply_limits(wanted: Limits) -> None:
    """Hold this process, and all that it starts, to these, for good."""
    if wanted.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted.memory, wanted.memory))
    if wanted.files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted.files, wanted.files))


def niceness(value: object) -> int:
    """Read a niceness: the higher, the more others go before."""
    if type(value) is not int or not -20 <= value <= 19:
        raise ValueError(f"expected a whole number from -20 to 19, got {shown(value)}")
    return value


def umask(value: object) -> int:
    """Read the bits that files which handlers make shall not have."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f"expected bits like '0077', in quotes, got {shown(value)}")
    return int(value, 8)


def _memory(value: object) -> int:
    found = size(value)
    if found < LEAST_MEMORY:
        raise ValueError(f"expected memory of at least '32MiB', got {shown(value)}")
    return found


def _cpu(value: object) -> float:
    found = re.fullmatch(r"([0-9]{1,5})%", value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError(f"expected cpu like '50%', of one processor, got {shown(value)}")
    return int(found[1]) / 100


def _files(value: object) -> int:
    if type(value) is not int or not LEAST_FILES <= value <= MOST_FILES:
        raise ValueError(f"expected files from {LEAST_FILES} to {MOST_FILES}, got {shown(value)}")
    return value
