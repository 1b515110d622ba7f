"""The engines: URL scheme -> opener. An engine is a folder here and a line in BACKENDS."""

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
    from brokerrun.core.store import Store

BACKENDS: Final = {"sqlite": "brokerrun.core.backends.sqlite.store"}


def open_store(
    target: str,
    *,
    create: bool = True,
    settings: Settings = Settings(),  # noqa: B008
) -> Store:
    """Name the store of *target*: a path, or `scheme://…`. Nothing is opened before its first use.

    Raises:
        UsageError: No engine of ours has that scheme.
    """
    engine, rest = _engine(target)
    opener: Callable[..., Store] = engine.open_store
    return opener(rest, create=create, settings=settings)


def remove_store(target: str) -> bool:
    """Delete the store of *target*, with all that belongs to it; tell whether there was one.

    Raises:
        StoreRefused: It is not ours.
        StoreBusy: A supervisor serves it.
    """
    engine, rest = _engine(target)
    remove: Callable[[str], bool] = engine.remove_store
    return remove(rest)


def read_simplebroker(path: str) -> AbstractContextManager[Found]:
    """Show what is in a database of SimpleBroker's, from a private copy that lasts as long."""
    from brokerrun.core.backends.sqlite import simplebroker

    return simplebroker.read_simplebroker(path)


def _engine(target: str) -> tuple[ModuleType, str]:
    scheme, separator, rest = target.partition("://")
    if not separator:
        scheme, rest = "sqlite", target
    if scheme not in BACKENDS:
        raise UsageError(f"unknown engine {scheme!r}: expected one of {', '.join(BACKENDS)}")
    return import_module(BACKENDS[scheme]), rest
