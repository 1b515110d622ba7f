from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import end_children

# A background job of a shell is started deaf to Ctrl-C, and so are its children: commands leave it
# so, and the tests that send one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_child_outlives_its_test() -> Iterator[None]:
    yield
    end_children()


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Name a database that is not there yet."""
    return str(tmp_path / "queue.db")
