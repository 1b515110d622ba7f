"""Project scope: the folders above, the project file there, and the project's database.

What is above the start is somebody else's until it is known to be ours: it is looked at and never
written, and what cannot be used is passed over, as SimpleBroker 3.6.1 does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from brokerrun.core.backends import is_ours
from brokerrun.core.names import nearest, shown
from brokerrun.core.settings import ENGINES, Settings, check_engine
from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

MOST_LEVELS: Final = 100
_KEYS: Final = ("version", "backend", "target", "backend_options")
_OURS, _NOTHING = "", "is not there"


def find_project_file(settings: Settings, start: str) -> str | None:
    """Return the nearest project file, in *start* or above it."""
    for folder in levels(start):
        path = settings.project_file(folder)
        if os.path.isfile(path):
            return path
    return None


def read_project_file(path: str) -> str:
    """Return the absolute path of the database that a project file names.

    A relative target begins at the folder of the file.

    Raises:
        UsageError: The file cannot be read, or something in it is wrong: all of it is named.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path}: not TOML: {error}") from error
    if faults := list(_faults(content)):
        raise UsageError(f"{path}: {'; '.join(faults)}")
    folder = os.path.dirname(os.path.realpath(path))
    return os.path.realpath(os.path.join(folder, content["target"]))


def find_project_database(settings: Settings, start: str) -> str:
    """Return the absolute path of the nearest database of ours, in *start* or above it.

    Raises:
        UsageError: There is none that may be read and written.
        StoreRefused: A database of SimpleBroker is nearer.
    """
    passed = []
    for folder in levels(start):
        path = os.path.join(folder, settings.default_db_name)
        finding = _look(path)
        if finding == _OURS:
            return os.path.realpath(path)
        if finding != _NOTHING:
            passed.append(f"; {path} {finding}")
    check_engine("BROKER_BACKEND", settings.backend)
    raise UsageError(
        f"no database {settings.default_db_name} in project scope, from {start} upward: run "
        f"`broker init` in the folder of the project{''.join(passed)}"
    )


def levels(start: str) -> Iterator[str]:
    """Yield *start*, without its symbolic links, and the folders above it.

    It ends at the root of the file system, before a folder of another one, and after 100 folders.
    """
    folder, device = os.path.realpath(start), None
    for _ in range(MOST_LEVELS):
        here = _device(folder, device)
        if device not in (None, here):
            return
        yield folder
        folder, device, below = os.path.dirname(folder), here, folder
        if folder == below:
            return


def _device(folder: str, below: int | None) -> int | None:
    """Return the file system of a folder; that of the one *below* where it may not be looked at."""
    try:
        return os.stat(folder).st_dev
    except OSError:
        return below


def _look(path: str) -> str:
    """Return why the database at *path* cannot be used.

    The engine alone opens it: to open and close the file past it would take away all locks that
    this process has on it.
    https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    if not _may(path, os.R_OK | os.W_OK):
        return "may not be read and written"
    if not _may(os.path.dirname(path), os.W_OK | os.X_OK):
        return "is in a folder that may not be written"
    return _OURS if is_ours(path) else "is no database of ours"


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _faults(content: dict[str, object]) -> Iterator[str]:
    for key in content:
        if key not in _KEYS:
            yield f"unknown key {shown(key)}{nearest(key, _KEYS)}"
    version, backend, target = (content.get(key) for key in _KEYS[:3])
    if type(version) is not int or version != 1:
        yield f"version: expected 1, got {_found(version)}"
    if backend not in ENGINES:
        yield f"backend: expected one of {', '.join(ENGINES)}, got {_found(backend)}"
    elif not _is_path(target):
        yield f"target: expected the path of a database, got {_found(target)}"
    options = content.get("backend_options", {})
    if not isinstance(options, dict):
        yield f"backend_options: expected a table, got {_found(options)}"
    elif backend in ENGINES and options:
        yield f"backend_options: {backend} has none, got {', '.join(map(shown, options))}"


def _is_path(target: object) -> bool:
    if not isinstance(target, str) or "://" in target or target.startswith("~"):
        return False
    return target.isprintable() and not target.endswith("/") and target != ""


def _found(value: object) -> str:
    return "nothing" if value is None else shown(value)
