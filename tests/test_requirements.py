"""Each requirement of the source documents for the command line is shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [
    line.split("\t")
    for line in (HERE / "requirements.tsv").read_text(encoding="utf-8").splitlines()[1:]
]


def is_there(name: str) -> bool:
    """Tell whether a test function, or a transcript of the parity suite, is where it is said."""
    path, _, test = name.partition("::")
    file = HERE.parent / path
    if not file.is_file():
        return False
    if "parity" in path:
        cases = (HERE / "parity").rglob("*.py")
        return any(f'"{test}"' in case.read_text(encoding="utf-8") for case in cases)
    return re.search(rf"^def {test}\(", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


@pytest.mark.parametrize(("ident", "tests"), ROWS, ids=[row[0] for row in ROWS])
def test_requirement_is_shown_by_tests_that_exist(ident: str, tests: str) -> None:
    assert re.fullmatch(r"R\d{3}", ident)
    assert tests
    assert [name for name in tests.split() if not is_there(name)] == []


def test_no_requirement_stands_twice_and_they_are_in_order() -> None:
    idents = [row[0] for row in ROWS]
    assert idents == sorted(set(idents))
