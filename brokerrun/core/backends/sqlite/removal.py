"""How a database file goes, with all that lies beside it."""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape, glob

from brokerrun.core.backends.sqlite.birth import refuse_stranger
from brokerrun.core.backends.sqlite.lockfile import BUSY_TIMEOUT, lockfile_of
from brokerrun.errors import StoreBusy, StoreError

_COMPANIONS = ("-wal", "-shm", "-journal")


def remove_store(path: str) -> bool:
    """Delete a database with all that lies beside it, its lock file last; tell if there was one.

    Raises:
        StoreRefused: It is not ours.
        StoreBusy: A supervisor serves it.
    """
    path = os.path.realpath(path)
    there, lock = os.path.lexists(path), lockfile_of(path)
    if not there and not any(map(os.path.lexists, [*_beside(path), lock.path])):
        return False
    refuse_stranger(path)
    lock.enter(BUSY_TIMEOUT)
    try:
        # Inside: who begins to attend now opens the database after us, and makes another.
        if lock.attended():
            raise StoreBusy(f"{path}: a supervisor serves it: `brokerrun down` first")
        for each in (path, *_beside(path), lock.path):
            with suppress(FileNotFoundError):
                os.unlink(each)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be deleted: {error.strerror}") from error
    finally:
        lock.leave()
    return there


def _beside(path: str) -> list[str]:
    """List what may lie beside a database, its lock file apart; also what supervisors left."""
    return [*(path + end for end in _COMPANIONS), *glob(escape(path) + ".*.slots")]
