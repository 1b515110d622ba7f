"""One line of the report: what was measured, how it is spread, and whether that holds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What a value is multiplied by to be shown in that unit.
UNITS = {"ms": 1000, "s": 1, "%": 100, "MB": 1e-6, "kB": 1e-3, "": 1}


@dataclass(frozen=True)
class Figure:
    """Values of one kind: seconds, bytes, shares or counts.

    unit: What they are shown in.
    target: The most that a statistic may be, in what the values are in; none: only told.
    rounds: Of how many this is the worst, where the single values are not known.
    """

    row: str
    what: str
    values: Sequence[float]
    unit: str = ""
    target: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 0

    @property
    def holds(self) -> bool:
        return all(self.statistic(name) <= bound for name, bound in self.target.items())

    def statistic(self, name: str) -> float:
        """Return median, worst or a percentile like p95, by nearest rank."""
        if name == "median":
            return statistics.median(self.values)
        ranked = sorted(self.values)
        if name == "worst":
            return ranked[-1]
        return ranked[math.ceil(len(ranked) * int(name[1:]) / 100) - 1]

    def __str__(self) -> str:
        names = ["median", "p95", "worst"] if len(self.values) > 1 else ["worst"]
        if "p99" in self.target:
            names.insert(2, "p99")
        found = ", ".join(f"{name} {self._shown(self.statistic(name))}" for name in names)
        rounds = self.rounds or len(self.values)
        line = f"{self.row:<4} {self.what}: {rounds} x, {found} {self.unit}".rstrip()
        if not self.target:
            return line
        bounds = ", ".join(f"{name} <= {self._shown(most)}" for name, most in self.target.items())
        return f"{line}; target {bounds} {self.unit}".rstrip() + (
            ": holds" if self.holds else ": MISSED"
        )

    def _shown(self, value: float) -> str:
        scaled = value * UNITS[self.unit]
        return f"{scaled:.3f}" if self.unit == "%" else f"{scaled:.4g}"
