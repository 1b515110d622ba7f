"""Shares of a processor: one control group for each process that has one.

Version 2, where our own group was delegated to us (systemd: Delegate=cpu), or version 1, where its
cpu controller may be written to. A group is named after this supervisor's pid, so that a later one
removes what a killed one left.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_PERIOD: Final = 100_000  # microseconds
_PREFIX: Final = "brokerrun-"


@dataclass(frozen=True, slots=True)
class Home:
    """Where groups can be made: the folder, and the version of what is mounted there."""

    folder: Path
    version: int


def home(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> Home | None:
    """Find where our groups go; None where no cpu controller is in reach."""
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        inside = path.lstrip("/")
        if controllers == "" and "cpu" in _words(root / inside / "cgroup.controllers"):
            return Home(root / inside, 2)
        if "cpu" in controllers.split(","):
            return Home(root / controllers / inside, 1)
    return None


def groups_fault() -> str | None:
    """Say why no group can be made here; None: it can."""
    place = home()
    if place is None:
        return "this system has no cpu controller in reach; systemd gives it with Delegate=cpu"
    if not os.access(place.folder, os.W_OK | os.X_OK):
        return f"{place.folder} is not ours to write; systemd gives it with Delegate=cpu"
    if place.version == 2 and not _is_root(place.folder) and _shared(place.folder):
        return f"other processes are in {place.folder} too; systemd gives one with Delegate=cpu"
    return None


class CpuGroups:
    """The groups of one supervisor; nothing is made before it is needed."""

    def __init__(self, place: Home):
        self._place = place
        self._ours = False

    def enter(self, name: str, pid: int, share: float) -> None:
        """Hold that process, and all that it starts, to a share of one processor.

        Raises:
            OSError: The kernel refuses.
        """
        if not self._ours:
            self._make_ours()
        group = self._place.folder / f"{_PREFIX}{os.getpid()}-{name}"
        group.mkdir(exist_ok=True)
        quota = int(share * _PERIOD)
        if self._place.version == 2:
            _put(group / "cpu.max", f"{quota} {_PERIOD}")
        else:
            _put(group / "cpu.cfs_period_us", str(_PERIOD))
            _put(group / "cpu.cfs_quota_us", str(quota))
        _put(group / "cgroup.procs", str(pid))

    def leave(self, name: str) -> None:
        """Remove a group whose process is gone; what it started and left keeps it."""
        with suppress(OSError):
            (self._place.folder / f"{_PREFIX}{os.getpid()}-{name}").rmdir()

    def _make_ours(self) -> None:
        """Remove what killed supervisors left; let groups below ours have the controller."""
        for left in self._place.folder.glob(f"{_PREFIX}*"):
            pid = left.name[len(_PREFIX) :].split("-")[0]
            if left.is_dir() and not os.path.exists(f"/proc/{pid}"):
                with suppress(OSError):
                    left.rmdir()
        if self._place.version == 2:
            if not _is_root(self._place.folder):
                self._move_out()
            _put(self._place.folder / "cgroup.subtree_control", "+cpu")
        self._ours = True

    def _move_out(self) -> None:
        """A group whose children share a controller must have no processes of its own."""
        own = self._place.folder / f"{_PREFIX}{os.getpid()}-supervisor"
        own.mkdir(exist_ok=True)
        for pid in _words(self._place.folder / "cgroup.procs"):
            _put(own / "cgroup.procs", pid)


def _shared(folder: Path) -> bool:
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return not ours.issuperset(map(int, _words(folder / "cgroup.procs")))


def _is_root(folder: Path) -> bool:
    return not (folder / "cgroup.type").exists()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _put(path: Path, text: str) -> None:
    # One write, without a truncation before it: these are no files.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
