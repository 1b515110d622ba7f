"""What a store of queues is, in plain Python: `test_queue_model.py` compares Queue with it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    id: int
    queue: str
    body: str
    priority: int
    state: str = "ready"  # ready, leased, done
    attempts: int = 0


@dataclass
class Model:
    rows: list[Row] = field(default_factory=list)
    newest: int = 0

    def write(self, queue: str, body: str, priority: int, ident: int) -> None:
        assert ident > self.newest, "ids grow"
        self.newest = ident
        self.rows.append(Row(ident, queue, body, priority))

    def seen(self, queue: str, after: int = -1, before: int = 2**63) -> list[Row]:
        """What a looker sees, in order."""
        there = (r for r in self.rows if r.queue == queue and r.state != "done")
        return sorted(
            (r for r in there if after < r.id < before), key=lambda row: (row.priority, row.id)
        )

    def ready(self, queue: str, limit: int | None = None, *bounds: int) -> list[Row]:
        """What a taker gets, in order."""
        return [row for row in self.seen(queue, *bounds) if row.state == "ready"][:limit]

    def claimable(self, queue: str, limit: int) -> list[Row]:
        """A batch ends before its first message that was attempted before; such a one is alone."""
        found = self.ready(queue, limit)
        again = [place for place, row in enumerate(found) if row.attempts]
        return found[: max(again[0], 1)] if again else found

    def move(self, rows: list[Row], target: str) -> None:
        for row in rows:
            row.queue, row.state, row.attempts = target, "ready", 0

    def delete(self, rows: list[Row]) -> None:
        self.rows = [row for row in self.rows if row not in rows]

    def counts(self, queue: str) -> tuple[int, int]:
        """Return how many were not read yet, and how many were."""
        states = [row.state for row in self.rows if row.queue == queue]
        return len(states) - states.count("done"), states.count("done")
