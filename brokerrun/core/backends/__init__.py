"""The engines: URL scheme -> folder. An engine is a folder here and a line in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from brokerrun.core.settings import Settings
from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Final

    from brokerrun.core.backends.sqlite.simplebroker import Found
    from brokerrun.core.findings import Finding
    from brokerrun.core.sqlrunner import SQLRunner
    from brokerrun.core.store import Store

BACKENDS: Final = {"sqlite": "brokerrun.core.backends.sqlite"}


def open_store(
    target: str | SQLRunner,
    *,
    create: bool = True,
    settings: Settings = Settings(),  # noqa: B008
) -> Store:
    """Name the store of *target*: a path, `scheme://…`, or a runner that the caller brings.

    Nothing is opened before its first use.

    Raises:
        UsageError: No engine of ours has that scheme.
    """
    if not isinstance(target, str):
        from brokerrun.core.backends.sqlite.store import open_runner

        return open_runner(target, settings)
    module, rest = _module(target, "store")
    opener: Callable[..., Store] = module.open_store
    return opener(rest, create=create, settings=settings)


def load_engine(target: str) -> None:
    """Import all that a process needs to work on *target*, so that its forks share it."""
    for part in ("store", "waiting"):
        _module(target, part)


def remove_store(target: str) -> bool:
    """Delete the store of *target*, with all that belongs to it; tell whether there was one.

    Raises:
        StoreRefused: It is not ours.
        StoreBusy: A supervisor serves it.
    """
    module, rest = _module(target, "removal")
    remove: Callable[[str], bool] = module.remove_store
    return remove(rest)


def examine(target: str, settings: Settings) -> list[Finding]:
    """Look for what is wrong around the store of *target*; touch nothing."""
    module, rest = _module(target, "checkup")
    look: Callable[[str, Settings], list[Finding]] = module.examine
    return look(rest, settings)


def is_ours(path: str) -> bool:
    """Tell whether the file at *path* is a database of ours, whole or not; touch nothing.

    Raises:
        StoreRefused: It is SimpleBroker's.
    """
    from brokerrun.core.backends.sqlite import birth

    return birth.is_ours(path)


def read_simplebroker(path: str) -> AbstractContextManager[Found]:
    """Show what is in a database of SimpleBroker's, from a private copy that lasts as long."""
    from brokerrun.core.backends.sqlite import simplebroker

    return simplebroker.read_simplebroker(path)


def _module(target: str, part: str) -> tuple[ModuleType, str]:
    """Load a part of the engine that *target* names; return it, and what comes behind `://`."""
    scheme, separator, rest = target.partition("://")
    if not separator:
        scheme, rest = "sqlite", target
    if scheme not in BACKENDS:
        raise UsageError(f"unknown engine {scheme!r}: expected one of {', '.join(BACKENDS)}")
    return import_module(f"{BACKENDS[scheme]}.{part}"), rest
