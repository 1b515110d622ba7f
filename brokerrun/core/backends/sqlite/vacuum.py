"""When rows that were read go, and how many at once."""

from __future__ import annotations

from brokerrun.core.backends.sqlite.rows import one, remember, touched
from brokerrun.core.settings import Settings
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Database

_MOST_DONE = 10_000  # where the threshold is a share: so many go whatever their share is


def vacuum_due(db: Database, settings: Settings) -> bool:
    """Tell whether rows that were read are over the threshold.

    Counts no further than it needs to: a share of ten in a hundred looks at ten rows for each one
    that was read.
    """
    share, most = settings.vacuum_threshold.share, settings.vacuum_threshold.rows or _MOST_DONE
    done = _done_up_to(db, most + 1)
    if done > most or (share == 0 and done):
        return True
    if not share or not done:
        return False
    fewer = done / share - done  # with fewer others, the share of those that were read is greater
    waiting: int = one(db, "waiting_up_to", limit=int(fewer) + 1)[0]
    return waiting < fewer


def enough_done(db: Database, settings: Settings) -> bool:
    """Tell whether it is worth a command's while to ask `vacuum_due`."""
    least = settings.auto_vacuum_interval
    return _done_up_to(db, least) == least


def vacuum_slice(db: Database, limit: int) -> int:
    """Drop up to *limit* rows that were read; return how many went."""
    newest = one(db, "newest_done", limit=limit)[0]
    if newest is None:
        return 0
    remember(db, newest)
    return touched(db, "vacuum", limit=limit)


def free_pages(db: Database, limit: int) -> int:
    """Cut up to *limit* free pages off the file; return how many.

    Page by page: the pragma is done in as many steps as it frees pages, and `sqlite3` takes one.
    """
    free: int = min(limit, db.execute("pragma freelist_count").fetchone()[0])
    for _ in range(free):
        db.execute("pragma incremental_vacuum(1)")
    return free


def _done_up_to(db: Database, limit: int) -> int:
    counted: int = one(db, "done_up_to", limit=limit)[0]
    return counted
