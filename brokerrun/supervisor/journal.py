"""The supervisor's log, each event of which is kept in the store too.

Kept are the newest of them, however the level of the log stands: `brokerrun events` shows them,
also of a supervisor that is gone.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from typing import Any, Final

from brokerrun.core.model import FleetEvent

_MOST_TEXT: Final = 20_000
_MOST_WAITING: Final = 1_000  # a store that stays busy costs events, not memory


class Journal:
    """Logs like a logger, in any thread. A *stack* is kept with the event, and not logged."""

    def __init__(self, log: Any, instance: str):
        self._log, self._instance, self._host = log, instance, socket.gethostname()
        self._waiting: deque[FleetEvent] = deque()
        self._taken_at = time.monotonic()

    def debug(self, event: str, **facts: Any) -> None:
        """Log a detail; it is not kept."""
        self._log.debug(event, **facts)

    def note(self, event: str, **facts: Any) -> None:
        """Keep what a log is told only at its level of detail."""
        self._log.debug(event, **facts)
        self.keep(event, **facts)

    def info(self, event: str, *, stack: str | None = None, **facts: Any) -> None:
        """Log and keep."""
        self._log.info(event, **facts)
        self.keep(event, **facts, stack=stack)

    def warning(self, event: str, *, stack: str | None = None, **facts: Any) -> None:
        """Log and keep."""
        self._log.warning(event, **facts)
        self.keep(event, **facts, stack=stack)

    def error(self, event: str, *, stack: str | None = None, **facts: Any) -> None:
        """Log and keep."""
        self._log.error(event, **facts)
        self.keep(event, **facts, stack=stack)

    def keep(self, event: str, **facts: Any) -> None:
        """Keep what needs no line, or has its line already."""
        said = {key: _bounded(value) for key, value in facts.items() if value is not None}
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(
                FleetEvent(
                    at=time.time_ns(),
                    instance=self._instance,
                    host=self._host,
                    event=event,
                    facts=json.dumps(said, default=str),
                )
            )

    def take(self, after: float = 0.0) -> list[FleetEvent]:
        """Take what was kept, *after* seconds since the last time; one thread does so."""
        if time.monotonic() < self._taken_at + after:
            return []
        self._taken_at = time.monotonic()
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


def _bounded(value: object) -> object:
    return value[:_MOST_TEXT] if isinstance(value, str) else value
