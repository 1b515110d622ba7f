"""Project scope: what is found in the folders above, what is passed over, and what is refused."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from support import Child

from brokerrun.core.backends.sqlite.birth import be_ours
from brokerrun.core.project import MOST_LEVELS, levels
from brokerrun.core.settings import Settings
from brokerrun.core.target import find_database
from brokerrun.errors import StoreMissing, StoreRefused, UsageError

SCOPE = Settings(project_scope=True)
PROJECT = 'version = 1\nbackend = "sqlite"\ntarget = "data/queue.db"\n'
NOBODY = 65534
SHARED = (0x40000002, 510)  # the bytes on which SQLite holds what says "in use"


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Be in `inner/deep` of a folder that anybody may enter, and name that folder."""
    top = os.path.realpath(tempfile.mkdtemp())
    os.chmod(top, 0o777)
    os.makedirs(f"{top}/inner/deep")
    monkeypatch.chdir(f"{top}/inner/deep")
    yield top
    shutil.rmtree(top)


def make_ours(path: str) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    be_ours(path, create=True)
    return path


def make_foreign(path: str, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements or ("create table t (x)",):
        db.execute(statement)
    db.commit()
    db.close()


def make_simplebroker(path: str) -> None:
    make_foreign(
        path,
        "create table meta (key text primary key, value)",
        "insert into meta values ('magic', 'simplebroker-v1')",
    )


def refusal(settings: Settings = SCOPE, directory: str | None = None) -> str:
    with pytest.raises(UsageError) as refused:
        find_database(settings, directory)
    return str(refused.value)


def as_nobody(work: Callable[[], str]) -> str:
    """Return what *work* returns, or its refusal, in a process without our privileges."""

    def live(talk: Talk) -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            talk.send(work())
        except UsageError as error:
            talk.send(str(error))

    child = Child(live)
    answer: str = child.hear()
    child.ends_well()
    return answer


def give_away(top: str) -> None:
    """Make all below *top* belong to who `as_nobody` is."""
    if os.geteuid() == 0:
        for folder, _, files in os.walk(top):
            for path in (folder, *(f"{folder}/{file}" for file in files)):
                os.chown(path, NOBODY, NOBODY)


# ------------------------------------------------------------------------------------ databases


def test_database_above_is_found_from_every_folder_of_the_project(project: str) -> None:
    path = make_ours(f"{project}/.broker.db")
    assert find_database(SCOPE) == path
    assert find_database(SCOPE, project) == path
    assert find_database(SCOPE, f"{project}/inner") == path


def test_nearest_database_is_the_one(project: str) -> None:
    make_ours(f"{project}/.broker.db")
    near = make_ours(f"{project}/inner/.broker.db")
    assert find_database(SCOPE) == near
    here = make_ours(f"{project}/inner/deep/.broker.db")
    assert find_database(SCOPE) == here


def test_name_of_the_settings_is_searched_for_with_its_folder(project: str) -> None:
    path = make_ours(f"{project}/.project/queue.db")
    make_ours(f"{project}/inner/.broker.db")
    assert find_database(Settings(project_scope=True, default_db_name=".project/queue.db")) == path
    assert "no database queue.db in project scope" in refusal(
        Settings(project_scope=True, default_db_name="queue.db")
    )


def test_nothing_found_says_to_run_init_and_makes_nothing(project: str) -> None:
    said = refusal()
    assert said.startswith(f"no database .broker.db in project scope, from {os.getcwd()} upward")
    assert "run `broker init`" in said
    assert [*os.walk(project)][1:] == [
        (f"{project}/inner", ["deep"], []),
        (f"{project}/inner/deep", [], []),
    ]


def test_nothing_found_is_no_missing_store_that_a_reader_calls_empty(project: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_database(SCOPE)
    assert not isinstance(refused.value, StoreMissing)


def test_search_begins_at_the_directory_flag(project: str) -> None:
    path = make_ours(f"{project}/inner/deep/.broker.db")
    os.chdir(project)
    refusal()
    assert find_database(SCOPE, "inner/deep") == path
    assert find_database(SCOPE, "inner/deep", "x.db") == f"{project}/inner/deep/x.db"


def test_search_follows_a_link_to_where_it_leads(project: str) -> None:
    path = make_ours(f"{project}/other/.broker.db")
    make_ours(f"{project}/.broker.db")
    os.symlink(f"{project}/other", "link")
    assert find_database(SCOPE, "link") == path


def test_location_of_the_environment_is_ignored(project: str) -> None:
    path = make_ours(f"{project}/.broker.db")
    make_ours(f"{project}/other/.broker.db")
    there = Settings(project_scope=True, default_db_location=f"{project}/other")
    assert find_database(there) == path
    os.remove(path)
    refusal(there)


def test_project_database_goes_before_the_engine_of_the_environment(project: str) -> None:
    other = Settings(project_scope=True, backend="postgres")
    assert refusal(other).startswith("BROKER_BACKEND: expected one of sqlite, got 'postgres'")
    path = make_ours(f"{project}/.broker.db")
    assert find_database(other) == path


def test_what_is_no_database_of_ours_is_passed_over_and_named(project: str) -> None:
    near = f"{project}/inner/deep/.broker.db"
    Path(near).write_bytes(b"not a database at all\n" * 100)
    make_foreign(f"{project}/inner/.broker.db")
    said = refusal()
    assert f"{near} is no database of ours; {project}/inner/.broker.db is no database" in said
    path = make_ours(f"{project}/.broker.db")
    assert find_database(SCOPE) == path


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(4080)])
def test_empty_and_damaged_files_are_passed_over_and_left(project: str, content: bytes) -> None:
    near = Path(f"{project}/inner/.broker.db")
    near.write_bytes(content)
    path = make_ours(f"{project}/.broker.db")
    assert find_database(SCOPE) == path
    assert near.read_bytes() == content
    assert sorted(os.listdir(near.parent)) == [".broker.db", "deep"]


def test_looking_at_a_foreign_database_leaves_nothing_beside_it(project: str) -> None:
    make_foreign(f"{project}/inner/.broker.db", "pragma journal_mode = wal", "create table t (x)")
    refusal()
    assert sorted(os.listdir(f"{project}/inner")) == [".broker.db", "deep"]


def test_folders_pipes_and_links_in_a_loop_are_passed_over(project: str) -> None:
    path = make_ours(f"{project}/.broker.db")
    os.mkfifo(f"{project}/inner/.broker.db")
    os.symlink(".broker.db", f"{project}/inner/deep/.broker.db")
    assert find_database(SCOPE) == path
    os.remove(f"{project}/inner/.broker.db")
    os.mkdir(f"{project}/inner/.broker.db")
    assert find_database(SCOPE) == path
    os.remove(path)
    assert f"{project}/inner/.broker.db is not a file" in refusal()


def test_database_behind_a_link_is_found(project: str) -> None:
    path = make_ours(f"{project}/other/queue.db")
    os.symlink("../other/queue.db", f"{project}/inner/.broker.db")
    assert find_database(SCOPE) == path


def test_simplebroker_database_is_refused_with_what_imports_it(project: str) -> None:
    make_ours(f"{project}/.broker.db")
    near = f"{project}/inner/.broker.db"
    make_simplebroker(near)
    with pytest.raises(
        StoreRefused, match=f"{near}: a SimpleBroker.*`broker -f NEW.db import {near}`"
    ):
        find_database(SCOPE)
    assert sorted(os.listdir(f"{project}/inner")) == [".broker.db", "deep"]


def test_database_in_use_is_found_and_stays_in_use(project: str) -> None:
    path = make_ours(f"{project}/.broker#1?%41.db")
    settings = Settings(project_scope=True, default_db_name=os.path.basename(path))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("create table more (x)")
    assert find_database(settings) == path
    assert Child(lambda talk: talk.send(_locked(path))).hear() is True
    assert db.execute("select count(*) from more").fetchone() == (0,)
    db.close()


def _locked(path: str) -> bool:
    start, length = SHARED
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError:
            return True
    return False


# ---------------------------------------------------------------------------------- permissions


def test_folder_that_may_not_be_entered_is_skipped(project: str) -> None:
    path = make_ours(f"{project}/.broker.db")
    make_ours(f"{project}/inner/.broker.db")
    give_away(project)
    os.chmod(f"{project}/inner", 0)
    try:
        assert as_nobody(lambda: find_database(SCOPE)) == path
        os.remove(path)
        assert f"{project}/inner/.broker.db cannot be looked at (Permission denied)" in as_nobody(
            lambda: find_database(SCOPE)
        )
    finally:
        os.chmod(f"{project}/inner", 0o755)


@pytest.mark.parametrize("mode", [0o400, 0o200, 0])
def test_database_that_may_not_be_read_and_written_is_not_used(project: str, mode: int) -> None:
    near = make_ours(f"{project}/inner/.broker.db")
    give_away(project)
    assert as_nobody(lambda: find_database(SCOPE)) == near
    os.chmod(near, mode)
    assert f"{near} may not be read and written" in as_nobody(lambda: find_database(SCOPE))
    path = make_ours(f"{project}/.broker.db")
    give_away(project)
    assert as_nobody(lambda: find_database(SCOPE)) == path


def test_database_in_a_folder_that_may_not_be_written_is_not_used(project: str) -> None:
    near = make_ours(f"{project}/inner/.broker.db")
    give_away(project)
    os.chmod(f"{project}/inner", 0o555)
    try:
        said = as_nobody(lambda: find_database(SCOPE))
        assert f"{near} is in a folder that may not be written" in said
    finally:
        os.chmod(f"{project}/inner", 0o755)


def test_project_file_that_may_not_be_read_is_named(project: str) -> None:
    path = f"{project}/.broker.toml"
    Path(path).write_text(PROJECT)
    give_away(project)
    os.chmod(path, 0)
    assert as_nobody(lambda: find_database(SCOPE)) == f"{path}: cannot be read: Permission denied"


# --------------------------------------------------------------------------------------- levels


def test_levels_end_at_the_root(project: str) -> None:
    seen = list(levels(f"{project}/inner"))
    assert seen[:2] == [f"{project}/inner", project]
    assert len(seen) <= project.count("/") + 2
    assert list(levels("/")) == ["/"]


def test_levels_end_after_a_hundred(project: str) -> None:
    deep = f"{project}/" + "d/" * (MOST_LEVELS - 1)
    os.makedirs(deep)
    assert len(list(levels(deep))) == MOST_LEVELS == 100
    path = make_ours(f"{project}/.broker.db")
    assert find_database(SCOPE, deep) == path
    os.mkdir(f"{deep}/one-more")
    refusal(SCOPE, f"{deep}/one-more")


def test_levels_are_those_behind_a_link_that_leads_in_a_circle(project: str) -> None:
    os.symlink("..", f"{project}/inner/deep/up")
    around = f"{project}/inner/deep" + "/up/deep" * 12
    assert list(levels(around))[:2] == [f"{project}/inner/deep", f"{project}/inner"]


def test_levels_end_before_another_file_system() -> None:
    if not os.path.ismount("/dev/shm"):
        pytest.skip("/dev/shm is no file system of its own")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert list(levels(folder)) == [folder, "/dev/shm"]


def test_search_does_not_cross_a_mount_boundary(project: str) -> None:
    make_ours(f"{project}/.broker.db")
    Path(f"{project}/.broker.toml").write_text(PROJECT)
    script = (
        'mount -t tmpfs none "$1" 2>/dev/null && cd "$1" || exit 77\n'
        'exec "$2" -c "'
        "from brokerrun.core.target import *\n"
        "try: find_database(Settings(project_scope=True))\n"
        "except UsageError as error: print(error)"
        '"'
    )
    command = ["unshare", "-m", "sh", "-c", script, "sh", f"{project}/inner", sys.executable]
    package = str(Path(__file__).parents[2])
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package}
    )
    if ran.returncode and not ran.stderr.startswith("Traceback"):
        pytest.skip("no file system may be mounted here")
    assert ran.stdout.startswith("no database .broker.db in project scope"), ran.stderr
