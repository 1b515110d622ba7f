"""The project file: where it is looked for, what it says, and how its faults are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brokerrun.core.backends.sqlite.birth import be_ours
from brokerrun.core.settings import Settings, read_settings
from brokerrun.core.target import find_database
from brokerrun.errors import UsageError

SCOPE = Settings(project_scope=True)
PROJECT = 'version = 1\nbackend = "sqlite"\ntarget = "data/queue.db"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be in `inner/deep` of a project, and name it."""
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner" / "deep")
    return os.path.realpath(tmp_path)


def refusal() -> str:
    with pytest.raises(UsageError) as refused:
        find_database(SCOPE)
    return str(refused.value)


def test_project_file_above_owns_the_target_with_project_scope(home: str) -> None:
    Path(f"{home}/.broker.toml").write_text(PROJECT)
    be_ours(f"{home}/inner/.broker.db", create=True)
    every = Settings(
        project_scope=True,
        default_db_name="other.db",
        default_db_location=home,
        backend="postgres",
        backend_target="postgresql://me@host",
    )
    for settings in (SCOPE, every):
        assert find_database(settings) == f"{home}/data/queue.db"
    assert find_database(SCOPE, None, "x.db") == f"{home}/inner/deep/x.db"


def test_target_begins_at_the_folder_of_the_file_behind_a_link(home: str) -> None:
    Path(f"{home}/inner/real.toml").write_text(PROJECT.replace("data/", "../"))
    os.symlink("inner/real.toml", f"{home}/.broker.toml")
    assert find_database(SCOPE, home) == f"{home}/queue.db"
    Path(f"{home}/inner/real.toml").write_text(PROJECT.replace("data/", f"{home}/"))
    assert find_database(SCOPE, home) == f"{home}/queue.db"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [(".weft", "broker.toml"), ("", ".weft/broker.toml"), ("{top}/.weft", "broker.toml")],
)
def test_name_and_folder_of_the_project_file_may_be_set(home: str, prefix: str, name: str) -> None:
    os.mkdir(f"{home}/.weft")
    Path(f"{home}/.weft/broker.toml").write_text(PROJECT)
    environ = {
        "BROKER_PROJECT_SCOPE": "1",
        "BROKER_PROJECT_CONFIG_PATH": prefix.format(top=home),
        "BROKER_PROJECT_CONFIG_NAME": name,
    }
    assert find_database(read_settings(environ)) == f"{home}/.weft/data/queue.db"


def test_folder_with_the_name_of_the_project_file_is_passed_over(home: str) -> None:
    os.mkdir(f"{home}/inner/.broker.toml")
    Path(f"{home}/.broker.toml").write_text(PROJECT)
    assert find_database(SCOPE) == f"{home}/data/queue.db"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("version = 1", "version = 2", "version: expected 1, got '2'"),
        ("version = 1", "version = true", "version: expected 1, got 'True'"),
        ("version = 1", "", "version: expected 1, got nothing"),
        ('"sqlite"', '"nonsense"', "backend: expected one of sqlite, got 'nonsense'"),
        ('"sqlite"', "[]", r"backend: expected one of sqlite, got '\[\]'"),
        ('backend = "sqlite"', "", "backend: expected one of sqlite, got nothing"),
        ('"data/queue.db"', "5", "target: expected the path of a database, got '5'"),
        ('"data/queue.db"', '""', "target: expected the path of a database, got ''"),
        ('"data/queue.db"', '"data/"', "target: expected the path"),
        ('"data/queue.db"', '"~/q.db"', "target: expected the path"),
        ('"data/queue.db"', r'"a\u0000b"', "target: expected the path"),
        ('target = "data/queue.db"', "", "target: expected the path of a database, got nothing"),
        ("version", "backend_options = 5\nversion", "backend_options: expected a table, got '5'"),
        ("version", "targt = 5\nversion", "unknown key 'targt'; did you mean target?"),
        ("version = 1", "nonsense", "not TOML: "),
        ("version", "backend_options.schema = 'x'\nversion", "sqlite has none, got 'schema'"),
    ],
)
def test_fault_in_a_project_file_is_named_with_file_and_key(
    home: str, old: str, new: str, fault: str
) -> None:
    path = f"{home}/.broker.toml"
    Path(path).write_text(PROJECT.replace(old, new))
    with pytest.raises(UsageError, match=f"^{path}: .*{fault}"):
        find_database(SCOPE)


def test_all_faults_of_a_project_file_come_at_once(home: str) -> None:
    Path(f"{home}/.broker.toml").write_text("version = 3\nbackend = 'sqlite'\nx = 1\n")
    assert refusal().count("; ") == 2


def test_secrets_in_a_project_file_are_not_printed(home: str) -> None:
    Path(f"{home}/.broker.toml").write_text(
        'version = 1\nbackend = "postgres"\ntarget = "postgresql://me:hunter2@host"\n'
        '[backend_options]\npassword = "hunter2"\n'
    )
    assert "hunter2" not in refusal()
    Path(f"{home}/.broker.toml").write_text(
        PROJECT.replace("data/queue.db", "postgresql://me:hunter2@host")
    )
    assert "got 'postgresql://***@host'" in refusal()


def test_project_file_that_is_not_utf_8_is_named(home: str) -> None:
    Path(f"{home}/.broker.toml").write_bytes(b"version = 1 # \xff\n")
    assert refusal().startswith(f"{home}/.broker.toml: not TOML: ")
