from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plain_runner import PlainRunner

from brokerrun.core.backends import open_store
from brokerrun.core.store import Store
from brokerrun.ext import SQLiteRunner, SQLRunner

ENGINES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite://{folder}/queue.db",
}


@pytest.fixture(params=ENGINES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a store of each engine that is not there yet."""
    return ENGINES[request.param](tmp_path)


WAYS: dict[str, Callable[[str], str | SQLRunner]] = {
    "itself": lambda target: target,
    "our runner": lambda target: SQLiteRunner(target.partition("://")[2]),
    "a caller's runner": lambda target: PlainRunner(target.partition("://")[2]),
}


@pytest.fixture(params=WAYS)
def store(request: pytest.FixtureRequest, target: str) -> Iterator[Store]:
    """Open a store by each way to it; other processes of a test go by the target itself."""
    way = WAYS[request.param](target)
    store = open_store(way)
    yield store
    store.close()
    if not isinstance(way, str):
        way.close()
