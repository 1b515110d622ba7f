"""What an examination brings: how grave, about what, what it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How grave a finding is; the gravest first."""

    ERROR = 0  # messages can be lost, or nothing works
    WARNING = 1  # it works, and less holds than one may think
    INFO = 2  # good to know; nothing has to be done


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One thing that was found."""

    severity: Severity
    subject: str
    what: str
    advice: str
