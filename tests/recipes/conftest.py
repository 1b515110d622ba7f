from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recipes.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    for program in ("bash", "jq"):
        assert shutil.which(program), f"the recipes need {program} on the PATH: install it"
    place = Place(tmp_path)
    yield place
    place.end()
    assert not place.has("pwned"), "a body was run by a shell"
