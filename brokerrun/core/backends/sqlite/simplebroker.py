"""SimpleBroker's own database, read to be taken over; never written, never locked.

Layout 4 (2.8.1, 3.6.1) keeps messages in `messages(id, queue, body, ts, claimed)`; the older ones
lack the aliases, and layout 1 `claimed`; layout 6 (8.7.2) lacks `id`, and layout 5 differs in its
indexes alone. `meta` holds a magic word and the number of the layout.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from tempfile import TemporaryDirectory

from brokerrun.core.backends.sqlite.birth import APPLICATION_ID, address
from brokerrun.core.model import Message
from brokerrun.errors import StoreBusy, StoreError, StoreMissing, StoreRefused
from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from typing import Final

_MAGIC: Final = "simplebroker-v1"
_LAYOUTS: Final = range(1, 7)
_COLUMNS: Final = frozenset({"queue", "body", "ts"})
_PARTS: Final = ("", "-wal", "-journal")
_PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.4)
_PENDING: Final = "select queue, body, ts from messages where coalesce(claimed, 0) = 0 order by ts"
_EVERY: Final = "select queue, body, ts from messages order by ts"  # layout 1 marks none as read
_READ: Final = "select count(*) from messages where coalesce(claimed, 0) <> 0"


class Found(Value):
    """What is in the database; the messages can be read once, while it is open."""

    messages: Iterator[Message]
    aliases: list[tuple[str, str]]
    left_out: int  # messages that were read there, but not vacuumed yet


@contextmanager
def read_simplebroker(path: str) -> Iterator[Found]:
    """Show what is in the database at *path*: messages that were not read, by id, and aliases.

    An id is SimpleBroker's timestamp. Our order is by id. SimpleBroker goes by the number of the
    row, which differs where two producers wrote at once and the one with the older timestamp came
    second.

    A private copy is read, with the log beside it: to open the file itself would fold its log in.
    The process must not have the file open in SQLite: the locks would go as the copy is made.

    Raises:
        StoreMissing: There is no file.
        StoreRefused: It is not SimpleBroker's, damaged, or of an unknown layout.
        StoreBusy: Somebody writes to it all the time.
        StoreError: It cannot be read or copied.
    """
    path = os.path.realpath(path)
    _must_be_file(path)
    with TemporaryDirectory(prefix="broker-import-") as folder:  # 0700
        copy = os.path.join(folder, "copy.db")
        _copy(path, copy)
        with closing(sqlite3.connect(address(copy, "mode=rw"), uri=True)) as db, _translated(path):
            db.execute("pragma trusted_schema = off")
            db.execute("pragma cell_size_check = on")
            marked = _recognise(db, path)
            _check(db, path)
            yield Found(
                _messages(db, path, marked),
                _aliases(db),
                db.execute(_READ).fetchone()[0] if marked else 0,
            )


def is_simplebroker(path: str) -> bool:
    """Tell whether the file at *path* is SimpleBroker's, and touch nothing.

    What stands in its log alone is not seen.
    """
    try:
        with closing(sqlite3.connect(address(path, "mode=ro&immutable=1"), uri=True)) as db:
            return _meta(db, "magic") == _MAGIC
    except sqlite3.Error:
        return False


def _must_be_file(path: str) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise StoreMissing(f"{path}: no such file") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreRefused(f"{path}: not a file")


def _copy(path: str, copy: str) -> None:
    """Copy the file and its log as they were at one moment.

    Both are read twice, in turn. Where both readings agree, neither changed between the end of the
    first reading of the last and the beginning of the second of the first.
    """
    try:
        for pause in _PAUSES:
            time.sleep(pause)
            copied = [_copied(path + part, copy + part) for part in _PARTS]
            if copied == [_digest(path + part) for part in _PARTS]:
                return
    except OSError as error:
        raise StoreError(f"{error.filename or path}: cannot be copied: {error.strerror}") from error
    raise StoreBusy(f"{path}: somebody is writing to it: stop that, then import again")


def _copied(path: str, copy: str) -> bytes | None:
    try:
        shutil.copyfile(path, copy)
    except FileNotFoundError:
        with suppress(FileNotFoundError):  # of an earlier round
            os.unlink(copy)
    return _digest(copy)


def _digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except FileNotFoundError:
        return None


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            raise _not_theirs(path) from error
        raise StoreRefused(f"{path}: damaged: {error}") from error


def _recognise(db: sqlite3.Connection, path: str) -> bool:
    """Refuse what is not a layout that we know; tell whether read messages are marked in it."""
    if db.execute("pragma application_id").fetchone()[0] == APPLICATION_ID:
        raise StoreRefused(
            f"{path}: a brokerrun database: `broker -f {shlex.quote(path)} dump | broker load` "
            "copies it"
        )
    if _meta(db, "magic") != _MAGIC:
        raise _not_theirs(path)
    layout = _meta(db, "schema_version")
    columns = {row[1] for row in db.execute("pragma table_info(messages)")}
    if layout not in _LAYOUTS or not columns >= _COLUMNS:
        raise StoreRefused(
            f"{path}: a SimpleBroker database of an unknown layout ({layout}; known: "
            f"{_LAYOUTS[0]} to {_LAYOUTS[-1]}): its own `broker dump` prints what `broker load` "
            "takes"
        )
    return "claimed" in columns


def _not_theirs(path: str) -> StoreRefused:
    return StoreRefused(f"{path}: not a SimpleBroker database")


def _meta(db: sqlite3.Connection, key: str) -> object:
    if not _has_table(db, "meta"):
        return None
    found = db.execute("select value from meta where key = ?", (key,)).fetchone()
    return found[0] if found else None


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    found = db.execute("select 1 from sqlite_master where type = 'table' and name = ?", (name,))
    return found.fetchone() is not None


def _check(db: sqlite3.Connection, path: str) -> None:
    fault = db.execute("pragma quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise StoreRefused(f"{path}: damaged: {' '.join(fault.split())}")


def _messages(db: sqlite3.Connection, path: str, marked: bool) -> Iterator[Message]:
    for queue, body, ident in db.execute(_PENDING if marked else _EVERY):
        if not (isinstance(body, str) and isinstance(queue, str) and isinstance(ident, int)):
            raise StoreRefused(f"{path}: damaged: message {ident!r} is not text")
        yield Message(ident, body, queue)


def _aliases(db: sqlite3.Connection) -> list[tuple[str, str]]:
    if not _has_table(db, "queue_aliases"):
        return []
    return db.execute("select alias, target from queue_aliases order by alias").fetchall()
