from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Commands
from shell import Shell


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Shell]:
    """Make a folder in which commands run, most of them in this process."""
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Make a folder in which commands run."""
    commands = Commands(tmp_path)
    yield commands
    commands.end()
