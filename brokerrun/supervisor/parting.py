"""How long a stop may last. Pure; the time is passed in, in monotonic seconds."""

from __future__ import annotations

from typing import Final

PARTING_SECONDS: Final = 30.0  # beyond the longest grace, until we leave without the rest
_SETTLE_SECONDS: Final = 5.0  # that the store may take for what the dead held
_HURRIED_SECONDS: Final = 1.0  # the same where we were told twice


class Parting:
    """A stop, from when it was told on."""

    def __init__(self) -> None:
        self._told_at: float | None = None
        self._dead_at: float | None = None
        self._patience = _SETTLE_SECONDS

    @property
    def begun(self) -> bool:
        return self._told_at is not None

    def tell(self, now: float) -> bool:
        """Begin it, or hurry it; tell whether this was the first time."""
        if self._told_at is not None:
            self._patience = _HURRIED_SECONDS
            return False
        self._told_at = now
        return True

    def overstayed(self, now: float, grace: float) -> bool:
        """Tell whether even who had that grace must be gone by now."""
        return self._told_at is not None and now > self._told_at + grace + PARTING_SECONDS

    def unsettled(self, now: float, *, all_dead: bool) -> bool:
        """Tell whether the store had its time for what the dead held."""
        if not (self.begun and all_dead):
            self._dead_at = None
            return False
        self._dead_at = self._dead_at or now
        return now > self._dead_at + self._patience
