"""Which store is meant: -d and -f on the command line, else `.broker.db` right here."""

from __future__ import annotations

import os
from contextlib import suppress

from brokerrun.errors import UsageError

DEFAULT_DATABASE = ".broker.db"
MAX_COMPONENT = 255
# What a shell or a terminal would take for its own; SimpleBroker 3.6.1 refuses the same.
_REFUSED = frozenset("|&;$`\"'<>(){}[]*?~^!#\0\r\n\t\x7f")


def find_database(directory: str | None = None, file: str | None = None) -> str:
    """Resolve -d and -f to the absolute path of the database, which need not be there.

    A relative *file* stays inside the directory, also through symbolic links; an absolute one
    brings its own. The last folder of the path may be missing too.

    Raises:
        UsageError: A name is refused, the two contradict each other, or a folder is missing.
    """
    name = DEFAULT_DATABASE if file is None else _checked(file, "file name (-f)")
    if directory is None and os.path.isabs(name):
        folder = "/"
    elif directory is None:
        folder = os.getcwd()
    else:
        folder = _checked(os.path.normpath(directory), "directory (-d)", _dots(directory))
    _require_folder(folder)
    path = os.path.realpath(os.path.join(folder, name))
    if os.path.isabs(name):
        _require_agreement(name, directory)
    elif not path.startswith(os.path.join(os.path.realpath(folder), "")):
        raise UsageError(f"file name (-f) {name!r} leads out of {folder}: name it absolutely")
    _require_folder(os.path.dirname(os.path.dirname(path)))
    return path


def make_folder(path: str) -> None:
    """Make the folder of the database at *path*, where that alone is missing."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        with suppress(FileExistsError):
            os.mkdir(folder)


def _dots(directory: str) -> str:
    """Return the first part of *directory* that is no name: normpath would hide it."""
    return ".." if ".." in directory.split("/") else ""


def _checked(name: str, what: str, dots: str = "") -> str:
    parts = name.split("/")
    if bad := sorted(_REFUSED.intersection(name)):
        raise UsageError(
            f"{what} {name!r} has {bad[0]!r} in it: shell and control characters are refused"
        )
    if dots or not name or "." in parts or ".." in parts:
        raise UsageError(f"{what} {name!r}: expected a name without '.' and '..' as parts")
    if any(part != part.strip(" ") or len(part) > MAX_COMPONENT for part in parts):
        raise UsageError(f"{what} {name!r}: a part begins or ends with a space, or is too long")
    return name


def _require_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "does not exist"
        raise UsageError(f"directory {folder} {found}")


def _require_agreement(name: str, directory: str | None) -> None:
    if directory is not None and os.path.realpath(os.path.dirname(name)) != os.path.realpath(
        directory
    ):
        raise UsageError(f"-f {name} lies outside of -d {directory}: give one of them")
