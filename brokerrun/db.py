"""DBConnection, as SimpleBroker 2.8.1 documents it: a door to `open_broker`, which is newer."""

from __future__ import annotations

from os import PathLike

from brokerrun.closing import Closing
from brokerrun.core.handle import Handle, open_broker

__all__ = ["DBConnection", "open_broker"]


class DBConnection(Closing):
    """A store opened for the `with` block; `get_connection` gives the handle on it."""

    def __init__(self, db_path: str | PathLike[str]):
        self._handle = open_broker(db_path)

    def get_connection(self) -> Handle:
        """Give the handle on the store; each time the same one."""
        return self._handle

    def close(self) -> None:
        """Close the connection."""
        self._handle.close()
