"""Closing: what is open for the length of a `with` block."""

from __future__ import annotations

from types import TracebackType

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Closing:
    """Gives itself to a `with` block, and is closed when the block is left, however it is."""

    def close(self) -> None:
        """Let go of what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
