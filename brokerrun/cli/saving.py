"""Writing a change into workers.toml: what else stands there, comments too, stays as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from brokerrun.errors import ConfigError


def savable(path: str, names: Iterable[str]) -> Any:
    """Read the file, if the number of processes of these workers can be written into it.

    Raises:
        ConfigError: It cannot be read, or says the number by a rule.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            document: Any = tomlkit.parse(file.read())
    except (OSError, ValueError, TOMLKitError) as error:
        raise ConfigError([f"{path}: cannot be changed: {error}"]) from error
    for name in names:
        written = document["workers"].get(name, {}).get("processes", 1)
        if isinstance(written, dict):
            reason = "follows the backlog: change min and max in the file"
            raise ConfigError([f"{path}: workers.{name}.processes: {reason}"])
    return document


def save_processes(path: str, workers: dict[str, dict[str, Any]]) -> None:
    """Write how many processes these workers have; a reader sees the old file or the new one.

    Raises:
        ConfigError: The file cannot be written, or cannot say that number.
    """
    document = savable(path, workers)
    for name, worker in workers.items():
        if not worker["processes"]:
            reason = "is 1 at least in the file; pause the worker to let it take nothing"
            raise ConfigError([f"{path}: workers.{name}.processes: {reason}"])
        document["workers"][name]["processes"] = worker["processes"]
    _replace(os.path.realpath(path), tomlkit.dumps(document))


def _replace(path: str, text: str) -> None:
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "x", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error
