from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import end_children


@pytest.fixture(autouse=True)
def _no_child_outlives_its_test() -> Iterator[None]:
    yield
    end_children()


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Name a database that is not there yet."""
    return str(tmp_path / "queue.db")
