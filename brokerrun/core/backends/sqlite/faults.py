"""The errors of SQLite in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from brokerrun.errors import (
    DataError,
    IntegrityError,
    OperationalError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
)
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

_OUTDATED: Final = 517  # SQLITE_BUSY_SNAPSHOT
_CODES: Final[dict[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_BUSY: (StoreBusy, "stayed locked; try again"),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "stayed locked; try again"),
    sqlite3.SQLITE_FULL: (StoreFull, "{}; nothing was changed"),
    sqlite3.SQLITE_IOERR: (StoreFull, "{}; nothing was changed"),
    sqlite3.SQLITE_CORRUPT: (StoreRefused, "damaged: {}"),
    sqlite3.SQLITE_NOTADB: (StoreRefused, "damaged: {}"),
}
_KINDS: Final[dict[type[sqlite3.Error], type[StoreError]]] = {
    sqlite3.OperationalError: OperationalError,
    sqlite3.IntegrityError: IntegrityError,
    sqlite3.DataError: DataError,
}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise what SQLite raises in the block as an error of ours that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        other = _KINDS.get(type(error), StoreError), "{}"
        kind, text = _CODES.get(code & 0xFF, other)
        if code == _OUTDATED:
            text = "others wrote since the transaction read: roll back, and `begin immediate`"
        raise kind(f"{path}: {text.format(error)}") from error
