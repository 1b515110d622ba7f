"""The engines: URL scheme -> opener. An engine is a folder here and a line in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

    from brokerrun.core.store import Store

BACKENDS: Final = {"sqlite": "brokerrun.core.backends.sqlite.store"}


def open_store(target: str, *, create: bool = True) -> Store:
    """Name the store of *target*: a path, or `scheme://…`. Nothing is opened before its first use.

    Raises:
        UsageError: No engine of ours has that scheme.
    """
    scheme, separator, rest = target.partition("://")
    if not separator:
        scheme, rest = "sqlite", target
    if scheme not in BACKENDS:
        raise UsageError(f"unknown engine {scheme!r}: expected one of {', '.join(BACKENDS)}")
    opener: Callable[..., Store] = import_module(BACKENDS[scheme]).open_store
    return opener(rest, create=create)
