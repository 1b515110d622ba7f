from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make a site of one's own."""
    site = Site(tmp_path)
    yield site
    site.close()
