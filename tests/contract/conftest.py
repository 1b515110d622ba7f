from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brokerrun.core.backends import open_store
from brokerrun.core.store import Store

ENGINES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite://{folder}/queue.db",
}


@pytest.fixture(params=ENGINES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a store of each engine that is not there yet."""
    return ENGINES[request.param](tmp_path)


@pytest.fixture
def store(target: str) -> Iterator[Store]:
    store = open_store(target)
    yield store
    store.close()
