"""Which database is meant: flags, else the project's, else what the environment says, else here."""

from __future__ import annotations

import os
from contextlib import suppress
from types import MappingProxyType

from brokerrun.core.settings import Settings, check_engine, settings_for
from brokerrun.errors import UsageError, wrong_kind
from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from pathlib import Path


def find_database(settings: Settings, directory: str | None = None, file: str | None = None) -> str:
    """Return the absolute path of the database, which need not be there.

    In this order: -f; the project file of the start; with project scope that of a folder above, or
    the nearest database; another engine; BROKER_DEFAULT_DB_LOCATION; right here. The start is
    *directory* (-d), else the current one. A relative name stays inside its directory, also through
    symbolic links. The last folder of the path may be missing too.

    Raises:
        UsageError: A name is refused, the two contradict each other, a folder is missing, or there
            is no database in project scope.
        StoreRefused: The one in project scope is SimpleBroker's.
    """
    if file is not None:
        return _flagged(settings, directory, file)
    start = _start(directory)
    if found := _of_project(settings, start):
        return found
    if settings.project_scope:
        from brokerrun.core.project import find_project_database

        return find_project_database(settings, start)
    return _default(settings, _default_folder(settings, directory))


class BrokerTarget(Value):
    """Which store: a plain value, to be resolved once and handed on.

    backend_name: The engine: sqlite.
    target: For sqlite the absolute path of the database, which need not be there.
    backend_options: What else the engine is told.
    project_root: The directory that it was resolved for.
    """

    backend_name: str
    target: str
    backend_options: Mapping[str, object] = MappingProxyType({})
    project_root: Path | None = None

    @property
    def target_path(self) -> Path:
        """The database as a path (sqlite)."""
        from pathlib import Path

        return Path(self.target)


def target_for_directory(
    directory: str | PathLike[str], *, config: Mapping[str, object] | None = None
) -> BrokerTarget:
    """Resolve the store that is rooted in *directory*: of its project file, else right there.

    As `broker init` does in that directory: BROKER_DEFAULT_DB_LOCATION and databases above do not
    count. *config* holds BROKER_* keys that go before the environment.

    Raises:
        UsageError: A name is refused, or a folder is missing.
    """
    from pathlib import Path

    folder = os.path.abspath(_as_path(directory, "directory"))
    settings = settings_for(config)
    return BrokerTarget("sqlite", find_for_init(settings, folder), {}, Path(folder))


def locate(place: object, settings: Settings) -> str:
    """Say which store the library's `db_path` means, for `open_store`.

    None is what the command line would use right here; a text or path is a database file, a text
    with `://` any store; a BrokerTarget is what it says. A relative path is taken from the current
    directory, now.

    Raises:
        ArgumentError: *place* is something else.
        UsageError: A name is refused, or a folder is missing.
    """
    if place is None:
        found = find_database(settings)
        make_folder(found)
        return found
    if isinstance(place, BrokerTarget):
        if place.backend_name != "sqlite":
            return f"{place.backend_name}://{place.target}"
        make_folder(place.target)
        return place.target
    path = _as_path(place, "db_path")
    return path if "://" in path else os.path.abspath(path)


def find_for_init(settings: Settings, directory: str | None = None) -> str:
    """Return the absolute path of the database that `broker init` makes in *directory*, or here.

    That of the project file, else one right there: BROKER_DEFAULT_DB_LOCATION and databases above
    do not count.

    Raises:
        UsageError: A name is refused, or a folder is missing.
    """
    start = _start(directory)
    return _of_project(settings, start) or _default(settings, start)


def make_folder(path: str) -> None:
    """Make the folder of the database at *path*, where that alone is missing."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        with suppress(FileExistsError):
            os.mkdir(folder)


def _as_path(place: object, what: str) -> str:
    """Return the text of a path."""
    if isinstance(place, os.PathLike):
        place = os.fspath(place)
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    if isinstance(place, str) and place and "\0" not in place:
        return place
    if isinstance(place, str):
        raise UsageError(f"{what} {place!r}: expected the path of a database")
    raise wrong_kind(what, "a path or a BrokerTarget", place)


def _start(directory: str | None) -> str:
    if directory is None:
        try:
            return os.getcwd()
        except FileNotFoundError:
            raise UsageError("the current directory is no longer there") from None
    # normpath would hide a part `..`
    folder = directory if ".." in directory.split("/") else os.path.normpath(directory)
    _require_name(folder, "directory (-d)")
    _require_folder(folder)
    return folder


def _flagged(settings: Settings, directory: str | None, file: str) -> str:
    """Resolve -f: it says which name, and where it is relative, the other settings say where."""
    what = "file name (-f)"
    _require_name(file, what)
    if not os.path.isabs(file):
        return _within(_default_folder(settings, directory), file, what)
    if directory is not None and not _same(os.path.dirname(file), _start(directory)):
        raise UsageError(f"-f {file} lies outside of -d {directory}: give one of them")
    return _with_folder(os.path.realpath(file))


def _of_project(settings: Settings, start: str) -> str | None:
    """Return what a project file names; without project scope, that of *start* alone."""
    if not settings.project_scope and not os.path.isfile(settings.project_file(start)):
        return None
    from brokerrun.core.project import find_project_file, read_project_file

    file = find_project_file(settings, start)
    return None if file is None else _with_folder(read_project_file(file))


def _default(settings: Settings, folder: str) -> str:
    check_engine("BROKER_BACKEND", settings.backend)
    return _within(folder, settings.default_db_name, "BROKER_DEFAULT_DB_NAME")


def _default_folder(settings: Settings, directory: str | None) -> str:
    """Return where a relative name belongs."""
    location = settings.default_db_location
    if directory is not None or settings.project_scope or not location:
        return _start(directory)
    _require_folder(location, "BROKER_DEFAULT_DB_LOCATION: directory")
    return location


def _within(folder: str, name: str, what: str) -> str:
    path = os.path.realpath(os.path.join(folder, name))
    if not path.startswith(os.path.join(os.path.realpath(folder), "")):
        raise UsageError(f"{what} {name!r} leads out of {folder}: give an absolute -f instead")
    return _with_folder(path)


def _with_folder(path: str) -> str:
    """Return *path*, whose folder alone may be missing."""
    _require_folder(os.path.dirname(os.path.dirname(path)))
    return path


def _same(folder: str, other: str) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)


def _require_name(path: str, what: str) -> None:
    from brokerrun.core.names import fault_of

    if fault := fault_of(path):
        raise UsageError(f"{what} {path!r} {fault}")


def _require_folder(folder: str, what: str = "directory") -> None:
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "does not exist"
        raise UsageError(f"{what} {folder} {found}")
