from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Commands


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Make a folder in which commands run."""
    commands = Commands(tmp_path)
    yield commands
    commands.end()
