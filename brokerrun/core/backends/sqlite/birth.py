"""How a database file comes to be, and how we know that it is ours."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, suppress

from brokerrun.core.statements import beside
from brokerrun.errors import StoreError, StoreMissing, StoreRefused

APPLICATION_ID = 0x62726B72  # "brkr"
LEAST_SQLITE = (3, 35, 0)
CHECKPOINTS_TOGETHER = (3, 51, 3)  # from which on processes may checkpoint beside each other
MIGRATIONS = ("schema.sql", "aliases.sql", "pauses.sql", "schedules.sql", "events.sql")
# https://sqlite.org/fileformat.html#the_rollback_journal
_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_OF_THE_SYSTEM = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
)


def must_be_new_enough() -> None:
    """Raise where Python brought an SQLite that does not know our statements."""
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old: brokerrun needs {least} or later; "
            "use a Python that brings one"
        )


def must_be_there(path: str) -> None:
    """Raise where there is no database: no file, or one of 0 bytes.

    Raises:
        StoreMissing: There is none.
        StoreRefused: There is something else.
    """
    if not has_content(path):
        raise StoreMissing(f"{path}: no database there; a first `broker write` makes one")


def refuse_stranger(path: str) -> None:
    """Raise where there is something that is not ours, and touch nothing.

    Raises:
        StoreRefused: It is foreign, damaged, or of a newer version.
    """
    if has_content(path):
        _version(path)


def be_ours(path: str, *, create: bool) -> None:
    """Make the file where there is none, refuse what is not ours, bring an older one up.

    Inside the turnstile, so that many who meet a database for the first time do not race.
    """
    if has_content(path):
        version = _version(path)
        if version < len(MIGRATIONS):
            _migrate(path, version)
    elif create:
        _give_birth(path)
    else:
        must_be_there(path)


def address(path: str, how: str) -> str:
    """Name the file to SQLite, with what comes after the question mark."""
    for character, code in (("%", "%25"), ("?", "%3f"), ("#", "%23")):
        path = path.replace(character, code)
    return f"file:{path}?{how}"


def has_content(path: str) -> bool:
    """Tell whether there is a file with anything in it.

    Raises:
        StoreRefused: It is no file.
        StoreError: It cannot be looked at.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreRefused(f"{path}: not a file")
    return status.st_size > 0 and not _cut_off(path)


def _cut_off(path: str) -> bool:
    """Tell whether the making of the file was killed: SQLite empties it again when it opens it.

    The log of its rollback begins with a mark, and has at 16 how many pages there were before.
    """
    try:
        with open(path + "-journal", "rb") as journal:
            head = journal.read(20)
    except OSError:
        return False
    return head[:8] == _JOURNAL and head[16:] == bytes(4)


def _version(path: str) -> int:
    """Return the version of a file of ours; refuse any other."""
    return judge(path, *_look_from_outside(path))


def judge(path: str, ident: int, version: int) -> int:
    """Return *version* where that and the application id are those of a file of ours.

    Raises:
        StoreRefused: They are not.
    """
    if ident != APPLICATION_ID:
        _refuse_simplebroker(path)
        raise StoreRefused(
            f"{path}: a SQLite database, but not brokerrun's; it was left as it is: "
            "name another file"
        )
    if version > len(MIGRATIONS):
        raise newer(path, version)
    if version < 1:
        raise StoreRefused(f"{path}: damaged: version {version}")
    return version


def is_ours(path: str) -> bool:
    """Tell whether the file is ours, whole or not, of whatever version; touch nothing.

    Raises:
        StoreRefused: It is SimpleBroker's.
    """
    try:
        with closing(sqlite3.connect(address(path, "mode=ro&immutable=1"), uri=True)) as db:
            # Else a header that counts pages which only the log has so far would be refused.
            db.execute("pragma writable_schema = on")
            ident: int = db.execute("pragma application_id").fetchone()[0]
    except sqlite3.DatabaseError:
        return False
    if ident == APPLICATION_ID:
        return True
    _refuse_simplebroker(path)
    return False


def _refuse_simplebroker(path: str) -> None:
    from shlex import quote

    from brokerrun.core.backends.sqlite.simplebroker import is_simplebroker  # not for commands

    if is_simplebroker(path):
        raise StoreRefused(
            f"{path}: a SimpleBroker database; it was left as it is: "
            f"`broker -f NEW.db import {quote(path)}` takes over what is in it"
        )


def newer(path: str, version: int) -> StoreRefused:
    """Word the refusal of a file of a later version."""
    return StoreRefused(
        f"{path}: of a newer brokerrun (version {version}, this one knows {len(MIGRATIONS)}): "
        "upgrade brokerrun"
    )


def _look_from_outside(path: str) -> tuple[int, int]:
    """Return the application id and the version of the file without touching it.

    To open a stranger's file in the ordinary way would fold its log in.
    """
    try:
        db = sqlite3.connect(address(path, "mode=ro&immutable=1"), uri=True)
        try:
            at_rest = not os.path.exists(path + "-wal")
            if not at_rest:
                # A checkpoint that was killed leaves a header that counts pages which only the log
                # has: whole together with it, but refused here, unless this is on.
                db.execute("pragma writable_schema = on")
            ident = int(db.execute("pragma application_id").fetchone()[0])
            version = int(db.execute("pragma user_version").fetchone()[0])
            if at_rest and (ident, version) == (APPLICATION_ID, len(MIGRATIONS)):
                db.execute("select id from last").fetchone()
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _OF_THE_SYSTEM:
            raise StoreError(f"{path}: {error}") from error
        raise StoreRefused(f"{path}: not a brokerrun database ({error})") from error
    return ident, version


def _give_birth(path: str) -> None:
    """Make the file, or fill the empty one that is there, in one transaction.

    Never by another file in its place: a connection that was opened on the empty one deletes the
    log of whatever has its name by then, with all that is in it.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, flags, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from error
    _migrate(path, 0)


def _migrate(path: str, version: int) -> None:
    """Bring the file from *version* to ours in one transaction; 0 is an empty file."""
    db = sqlite3.connect(address(path, "mode=rw"), uri=True, isolation_level=None)
    try:
        if version:  # brought up already, in the log alone, while others have it open
            version = int(db.execute("pragma user_version").fetchone()[0])
        elif db.execute("select 1 from sqlite_master").fetchone():
            raise StoreRefused(f"{path}: another program makes it: name another file")
        if version < len(MIGRATIONS):
            db.executescript(_script(version))
        if not version:  # whose it is must stand in the file itself; somebody chose a log already
            db.execute("pragma wal_checkpoint(passive)")
    finally:
        db.close()


def _script(version: int) -> str:
    # Deferred: after the first page is there, the vacuum cannot be chosen; before the transaction,
    # it would be written alone.
    first = ["begin immediate;"] if version else ["begin;", "pragma auto_vacuum = incremental;"]
    return "\n".join([*first, *migration(version), "commit;"])


def migration(version: int) -> Iterator[str]:
    """Yield the statements that bring a file from *version* to ours, for one transaction."""
    yield f"pragma application_id = {APPLICATION_ID};"
    for name in MIGRATIONS[version:]:
        with open(beside(__file__, name), encoding="utf-8") as file:
            statement = ""
            for line in file:
                statement += line
                if sqlite3.complete_statement(statement):
                    yield statement
                    statement = ""
    yield f"pragma user_version = {len(MIGRATIONS)};"
