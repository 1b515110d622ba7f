"""What can be wrong around a database file: the SQLite, the file system, the modes, strangers.

Looking changes nothing, and the database itself is never opened: to close a descriptor of it would
drop the locks of its process.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from brokerrun.core.backends.sqlite.birth import CHECKPOINTS_TOGETHER, LEAST_SQLITE
from brokerrun.core.backends.sqlite.forks import Identity, identity
from brokerrun.core.findings import Finding, Severity
from brokerrun.core.settings import Settings

_NETWORK: Final = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "lustre",
        "gfs2",
        "ocfs2",
        "beegfs",
        "gpfs",
        "9p",
        "virtiofs",
        "vboxsf",
        "prl_fs",
        "drvfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.vmhgfs-fuse",
    ]
)
_GONE_WITH_POWER: Final = frozenset({"tmpfs", "ramfs"})
_GONE_WITH_CONTAINER: Final = frozenset({"overlay", "aufs"})
_UNORDERED: Final = frozenset({"nobarrier", "barrier=0", "volatile", "fsync=volatile"})


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system that a path is on."""

    point: str
    kind: str
    options: frozenset[str]


def examine(database: str, settings: Settings) -> list[Finding]:
    """Look at all that surrounds the file at *database*, whether it is there or not."""
    path = os.path.realpath(database)
    found = [*of_version(sqlite3.sqlite_version_info), *of_sync_mode(settings.sync_mode)]
    mount = mount_of(path)
    if mount is not None:
        found += of_mount(path, mount)
    return [*found, *_of_modes(path), *_of_strangers(path)]


def of_version(version: tuple[int, ...]) -> Iterator[Finding]:
    """Judge the SQLite that Python brought."""
    shown = f"SQLite {'.'.join(map(str, version))}"
    if version < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        yield Finding(
            Severity.ERROR, shown, "is too old", f"use a Python that brings {least} or later"
        )
    elif version < CHECKPOINTS_TOGETHER:
        yield Finding(
            Severity.INFO,
            shown,
            "damages a database that two processes checkpoint at once (before 3.51.3)",
            "nothing: brokerrun checkpoints under a lock; let no other program do it",
        )


def of_sync_mode(mode: str) -> Iterator[Finding]:
    """Judge what is flushed before a producer is told."""
    if mode in ("NORMAL", "OFF"):
        yield Finding(
            Severity.WARNING,
            f"BROKER_SYNC_MODE={mode}",
            "in this environment a power cut loses messages that were written already",
            "unset it, or set it to FULL",
        )


def of_mount(path: str, mount: Mount) -> Iterator[Finding]:
    """Judge where the database lies."""
    on = f"is on {mount.kind} ({mount.point})"
    if mount.kind in _NETWORK:
        yield Finding(
            Severity.ERROR,
            path,
            f"{on}, which other hosts share: its locks and its shared memory do not hold there",
            "put it on a local disk",
        )
    elif mount.kind in _GONE_WITH_POWER:
        yield Finding(
            Severity.WARNING, path, f"{on}: it is gone with the power", "put it on a disk"
        )
    elif mount.kind in _GONE_WITH_CONTAINER:
        yield Finding(
            Severity.WARNING, path, f"{on}: it is gone with the container", "put it on a volume"
        )
    elif mount.kind.startswith("fuse"):
        yield Finding(
            Severity.WARNING,
            path,
            f"{on}: whether its locks and flushes hold is not known",
            "put it on a local disk",
        )
    for option in sorted(mount.options & _UNORDERED):
        yield Finding(
            Severity.WARNING,
            path,
            f"{on} mounted with {option}: a power cut loses what was flushed already",
            f"mount it without {option}",
        )


def mount_of(path: str, table: str = "/proc/self/mountinfo") -> Mount | None:
    """Find the file system of a path, which need not be there; None where nothing tells."""
    found = None
    with suppress(OSError), open(table, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            # Octal escapes stand for what would end a field.
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
            if path == point or path.startswith(point.rstrip("/") + "/"):
                kind, _, super_options = after.split()[:3]
                options = frozenset(f"{before.split()[5]},{super_options}".split(","))
                if found is None or len(point) >= len(found.point):
                    found = Mount(point, kind, options)
    return found


def _of_modes(path: str) -> Iterator[Finding]:
    for each in (path, f"{path}-wal", f"{path}.lock"):
        with suppress(OSError):
            mode = stat.S_IMODE(os.stat(each).st_mode)
            if mode & 0o077:
                yield Finding(
                    Severity.WARNING,
                    each,
                    f"has mode {mode:04o}: other users can open it",
                    f"chmod 600 {each}",
                )


def _of_strangers(path: str) -> Iterator[Finding]:
    """Name who has the database open without our lock file beside it."""
    try:
        wanted = identity(path)
    except OSError:
        return
    unseen = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            held = {link for name in os.listdir(f"/proc/{pid}/fd") for link in _link(pid, name)}
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue  # it ended meanwhile
        if wanted in held and _lock_identity(path) not in held:
            yield Finding(
                Severity.WARNING,
                f"process {pid} ({_command(pid)})",
                f"has {path} open and is not brokerrun; should it checkpoint, which nobody can "
                "see from here, the database can be damaged",
                "end it, or let it say `pragma wal_autocheckpoint = 0` first",
            )
    if unseen:
        yield Finding(
            Severity.INFO,
            f"{unseen} processes",
            "of other users could not be looked at: one may have the database open",
            "run this as root to see them",
        )


def _lock_identity(path: str) -> Identity | None:
    try:
        return identity(f"{path}.lock")
    except OSError:
        return None


def _link(pid: str, name: str) -> Iterator[Identity]:
    with suppress(OSError):
        yield identity(f"/proc/{pid}/fd/{name}")


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"
