"""What an examination finds around a database file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from brokerrun import Broker
from brokerrun.core.backends import examine
from brokerrun.core.backends.sqlite.checkup import (
    Mount,
    mount_of,
    of_mount,
    of_sync_mode,
    of_version,
)
from brokerrun.core.findings import Finding, Severity
from brokerrun.core.settings import Settings

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
_OPENED = (
    "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('select * from message');"
)


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / ".broker.db")
    with Broker(path) as broker:
        broker.write("q", "m")
    return path


def about(found: list[Finding], word: str) -> list[Finding]:
    return [each for each in found if word in f"{each.subject} {each.what}"]


@pytest.mark.parametrize(
    ("version", "severities"),
    [((3, 34, 1), [ERROR]), ((3, 35, 0), [INFO]), ((3, 51, 2), [INFO]), ((3, 51, 3), [])],
)
def test_an_old_sqlite(version: tuple[int, ...], severities: list[Severity]) -> None:
    assert [each.severity for each in of_version(version)] == severities


@pytest.mark.parametrize(
    ("mode", "severities"),
    [("FULL", []), ("EXTRA", []), ("NORMAL", [WARNING]), ("OFF", [WARNING])],
)
def test_a_weak_sync_mode(mode: str, severities: list[Severity]) -> None:
    assert [each.severity for each in of_sync_mode(mode)] == severities


@pytest.mark.parametrize(
    ("kind", "options", "severities"),
    [
        ("ext4", "rw,relatime", []),
        ("ext4", "rw,barrier=0", [WARNING]),
        ("xfs", "rw", []),
        ("nfs4", "rw", [ERROR]),
        ("cifs", "rw", [ERROR]),
        ("9p", "rw", [ERROR]),
        ("fuse.sshfs", "rw", [ERROR]),
        ("fuse.ntfs", "rw", [WARNING]),
        ("tmpfs", "rw", [WARNING]),
        ("overlay", "rw", [WARNING]),
        ("overlay", "rw,volatile", [WARNING, WARNING]),
    ],
)
def test_file_systems(kind: str, options: str, severities: list[Severity]) -> None:
    mount = Mount("/mnt", kind, frozenset(options.split(",")))
    assert [each.severity for each in of_mount("/mnt/x.db", mount)] == severities


def test_the_innermost_and_last_mount_counts(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda rw\n"
        "2 1 0:9 / /data\\040one rw - nfs4 host:/export rw,vers=4.2\n"
        "3 1 0:8 / /data rw - tmpfs tmpfs rw\n"
        "4 1 0:7 / /data rw,noatime shared:3 - xfs /dev/sdb rw\n"
    )

    def kind(path: str) -> str | None:
        mount = mount_of(path, str(table))
        return mount.kind if mount else None

    assert kind("/data one/x.db") == "nfs4"
    assert kind("/data/x.db") == "xfs"
    assert kind("/database/x.db") == "ext4"
    assert mount_of("/x", str(tmp_path / "none")) is None


def test_a_file_that_is_as_it_should_be_brings_infos_at_most(database: str) -> None:
    # Of a strange container: where the tests' own folder is on overlay, that is told too.
    found = [each for each in examine(database, Settings()) if not about([each], "overlay")]
    assert all(each.severity is INFO for each in found), found


def test_a_database_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    found = examine(str(tmp_path / "absent" / "x.db"), Settings())
    assert not [each for each in found if each.severity is ERROR]
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_a_database_in_memory_is_told(tmp_path: Path) -> None:
    (told,) = about(examine("/dev/shm/not-there.db", Settings()), "tmpfs")
    assert told.severity is WARNING


def test_modes_that_let_others_in(database: str) -> None:
    os.chmod(database, 0o644)
    (told,) = about(examine(database, Settings()), "mode 0644")
    assert (told.severity, told.advice) == (WARNING, f"chmod 600 {database}")


def test_another_program_on_the_database_is_named_and_our_own_are_not(database: str) -> None:
    with Broker(database) as broker, stranger(database) as process:
        assert broker.read("q") is not None  # open here, with the lock file beside it
        (told,) = about(examine(database, Settings()), "is not brokerrun")
        assert told.subject.startswith(f"process {process.pid} (")
        assert told.severity is WARNING
        process.communicate(b"\n", timeout=10)
    assert not about(examine(database, Settings()), "is not brokerrun")


def test_a_command_of_ours_that_only_looks_is_no_stranger(database: str) -> None:
    command = [sys.executable, "-m", "brokerrun.cli.broker", "-f", database, "watch", "q", "--peek"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"watching" in process.stderr.readline()
        assert not about(examine(database, Settings()), "is not brokerrun")
        process.terminate()


def stranger(database: str) -> subprocess.Popen[bytes]:
    """Start a program that has the database open until it reads a line."""
    code = f"{_OPENED} print('open', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process
