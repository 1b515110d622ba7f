"""Which database file is meant, and which names are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brokerrun.core.target import find_database, make_folder
from brokerrun.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    here = tmp_path / "home"
    (here / "sub").mkdir(parents=True)
    monkeypatch.chdir(here)
    return os.path.realpath(here)


def test_default_is_broker_db_right_here(home: str) -> None:
    assert find_database() == f"{home}/.broker.db"


def test_file_is_relative_to_the_directory_or_absolute(home: str) -> None:
    assert find_database("sub", "x.db") == f"{home}/sub/x.db"
    assert find_database(None, "sub/x.db") == f"{home}/sub/x.db"
    assert find_database(None, f"{home}/sub/x.db") == f"{home}/sub/x.db"
    assert find_database("sub", f"{home}/sub/x.db") == f"{home}/sub/x.db"


def test_absolute_file_outside_of_the_directory_is_refused(home: str) -> None:
    with pytest.raises(UsageError, match="outside of -d"):
        find_database("sub", f"{home}/x.db")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "./x",
        "a;b",
        "~/x",
        "a$b",
        "a*",
        "a\nb",
        "a'b",
        "a(b",
        "a#",
        " a",
        "a ",
        "x" * 256,
        "a|b",
        "a\tb",
        "a!",
    ],
)
def test_names_that_simplebroker_refuses(name: str, home: str) -> None:
    with pytest.raises(UsageError):
        find_database(None, name)


@pytest.mark.parametrize("name", ["a b.db", "a:b", "a%b", "a,b=c+d@e", "é", "-x", "a\\b", ".x"])
def test_names_that_simplebroker_takes(name: str, home: str) -> None:
    assert find_database(None, name) == f"{home}/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", "sub/..", "missing", "a;b", "~", "file"])
def test_directories_that_are_refused(name: str, home: str) -> None:
    Path("file").touch()
    with pytest.raises(UsageError):
        find_database(name)


def test_symbolic_links_do_not_lead_out(home: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "out", "away")
    os.symlink(tmp_path / "out" / "x.db", "link.db")
    os.symlink("sub", "within")
    for name in ("away/x.db", "link.db"):
        with pytest.raises(UsageError, match="leads out"):
            find_database(None, name)
    assert find_database(None, "within/x.db") == f"{home}/sub/x.db"


def test_one_missing_folder_is_made_by_who_writes(home: str) -> None:
    path = find_database(None, "new/x.db")
    assert not os.path.exists("new")
    make_folder(path)
    make_folder(path)
    assert os.path.isdir("new")
    with pytest.raises(UsageError, match="does not exist"):
        find_database(None, "a/b/c.db")


def test_odd_name_of_the_current_directory_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "My (old) project"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert find_database().endswith("My (old) project/.broker.db")
