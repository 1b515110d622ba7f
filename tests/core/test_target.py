"""Which database file is meant, and which names are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brokerrun.core.settings import Settings
from brokerrun.core.target import find_database, find_for_init, make_folder
from brokerrun.errors import UsageError

SETTINGS = Settings()
SCOPE = Settings(project_scope=True)
PROJECT = 'version = 1\nbackend = "sqlite"\ntarget = "of-project.db"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    here = tmp_path / "home"
    (here / "sub").mkdir(parents=True)
    monkeypatch.chdir(here)
    return os.path.realpath(here)


def test_default_is_broker_db_right_here(home: str) -> None:
    assert find_database(SETTINGS) == f"{home}/.broker.db"


def test_file_is_relative_to_the_directory_or_absolute(home: str) -> None:
    assert find_database(SETTINGS, "sub", "x.db") == f"{home}/sub/x.db"
    assert find_database(SETTINGS, None, "sub/x.db") == f"{home}/sub/x.db"
    assert find_database(SETTINGS, None, f"{home}/sub/x.db") == f"{home}/sub/x.db"
    assert find_database(SETTINGS, "sub", f"{home}/sub/x.db") == f"{home}/sub/x.db"


def test_absolute_file_outside_of_the_directory_is_refused(home: str) -> None:
    with pytest.raises(UsageError, match="outside of -d"):
        find_database(SETTINGS, "sub", f"{home}/x.db")


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
        find_database(SETTINGS, None, name)


@pytest.mark.parametrize("name", ["a b.db", "a:b", "a%b", "a,b=c+d@e", "é", "-x", "a\\b", ".x"])
def test_names_that_simplebroker_takes(name: str, home: str) -> None:
    assert find_database(SETTINGS, None, name) == f"{home}/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "sub/..", "sub/../sub", "missing", "a;b", "~", "file"]
)
def test_directories_that_are_refused(name: str, home: str) -> None:
    Path("file").touch()
    with pytest.raises(UsageError):
        find_database(SETTINGS, name)


def test_symbolic_links_do_not_lead_out(home: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "out", "away")
    os.symlink(tmp_path / "out" / "x.db", "link.db")
    os.symlink("sub", "within")
    for name in ("away/x.db", "link.db"):
        with pytest.raises(UsageError, match="leads out"):
            find_database(SETTINGS, None, name)
    assert find_database(SETTINGS, None, "within/x.db") == f"{home}/sub/x.db"


def test_one_missing_folder_is_made_by_who_writes(home: str) -> None:
    path = find_database(SETTINGS, None, "new/x.db")
    assert not os.path.exists("new")
    make_folder(path)
    make_folder(path)
    assert os.path.isdir("new")
    with pytest.raises(UsageError, match="does not exist"):
        find_database(SETTINGS, None, "a/b/c.db")


def test_odd_name_of_the_current_directory_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "My (old) project"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert find_database(SETTINGS).endswith("My (old) project/.broker.db")


def test_name_is_that_of_the_settings(home: str) -> None:
    assert find_database(Settings(default_db_name="q.db")) == f"{home}/q.db"
    assert find_database(Settings(default_db_name="q.db"), "sub") == f"{home}/sub/q.db"
    assert find_database(Settings(default_db_name=".new/q.db")) == f"{home}/.new/q.db"
    assert find_database(Settings(default_db_name="q.db"), None, "x.db") == f"{home}/x.db"


def test_name_of_the_settings_does_not_lead_out_through_a_link(home: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "out", "away")
    with pytest.raises(UsageError, match=r"BROKER_DEFAULT_DB_NAME 'away/q.db' leads out"):
        find_database(Settings(default_db_name="away/q.db"))


def test_location_stands_in_for_the_current_directory_but_not_for_a_flag(home: str) -> None:
    there = Settings(default_db_location=f"{home}/sub", default_db_name="q.db")
    assert find_database(there) == f"{home}/sub/q.db"
    os.mkdir("other")
    assert find_database(there, "other") == f"{home}/other/q.db"
    assert find_database(there, "other", "x.db") == f"{home}/other/x.db"
    assert find_database(there, None, f"{home}/x.db") == f"{home}/x.db"


def test_location_is_where_a_relative_file_name_belongs(home: str) -> None:
    there = Settings(default_db_location=f"{home}/sub")
    assert find_database(there, None, "x.db") == f"{home}/sub/x.db"
    assert find_database(there._replace(project_scope=True), None, "x.db") == f"{home}/x.db"


def test_location_that_is_no_directory_is_refused(home: str) -> None:
    Path("file").touch()
    for name, found in (("missing", "does not exist"), ("file", "is a file")):
        location = f"{home}/{name}"
        with pytest.raises(UsageError, match=f"BROKER_DEFAULT_DB_LOCATION.*{location} {found}"):
            find_database(Settings(default_db_location=location))


def test_current_directory_that_was_removed_is_named(home: str) -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(f"{home}/gone")
    for find in (find_database, find_for_init):
        with pytest.raises(UsageError, match="current directory is no longer there"):
            find(SETTINGS)
    assert find_database(SETTINGS, home, "x.db") == f"{home}/x.db"
    assert find_database(SETTINGS, None, f"{home}/x.db") == f"{home}/x.db"


def test_engine_that_does_not_exist_is_refused_with_its_variable(home: str) -> None:
    other = Settings(backend="postgresql://me:hunter2@host")
    for find in (find_database, find_for_init):
        with pytest.raises(UsageError) as refused:
            find(other)
        assert str(refused.value) == (
            "BROKER_BACKEND: expected one of sqlite, got 'postgresql://***@host'"
        )


def test_file_flag_and_project_file_go_before_the_engine_of_the_environment(home: str) -> None:
    other = Settings(backend="postgres")
    assert find_database(other, None, "x.db") == f"{home}/x.db"
    Path(".broker.toml").write_text(PROJECT)
    assert find_database(other) == f"{home}/of-project.db"


def test_project_file_of_the_start_counts_without_project_scope(home: str) -> None:
    there = Settings(default_db_location=f"{home}/sub")
    Path(".broker.toml").write_text(PROJECT)
    assert find_database(SETTINGS) == f"{home}/of-project.db"
    assert find_database(there) == f"{home}/of-project.db"
    assert find_for_init(SETTINGS) == f"{home}/of-project.db"
    assert find_database(SETTINGS, None, "x.db") == f"{home}/x.db"
    assert find_database(SETTINGS, "sub") == f"{home}/sub/.broker.db"
    os.chdir("sub")
    assert find_database(SETTINGS) == f"{home}/sub/.broker.db"
    assert find_database(SETTINGS, home) == f"{home}/of-project.db"


def test_init_makes_the_database_right_here(home: str) -> None:
    Path(".broker.db").touch()
    os.chdir("sub")
    assert find_for_init(SCOPE) == f"{home}/sub/.broker.db"
    assert find_for_init(Settings(default_db_name="d/q.db")) == f"{home}/sub/d/q.db"
    assert find_for_init(Settings(default_db_location=home)) == f"{home}/sub/.broker.db"


def test_init_follows_a_project_file_above_with_project_scope_only(home: str) -> None:
    Path(".broker.toml").write_text(PROJECT)
    os.chdir("sub")
    assert find_for_init(SCOPE) == f"{home}/of-project.db"
    assert find_for_init(SETTINGS) == f"{home}/sub/.broker.db"


def test_target_of_a_project_may_lack_its_last_folder_alone(home: str) -> None:
    Path(".broker.toml").write_text(PROJECT.replace("of-project", "new/q"))
    assert find_database(SETTINGS) == f"{home}/new/q.db"
    Path(".broker.toml").write_text(PROJECT.replace("of-project", "a/b/q"))
    with pytest.raises(UsageError, match=f"directory {home}/a does not exist"):
        find_database(SETTINGS)
