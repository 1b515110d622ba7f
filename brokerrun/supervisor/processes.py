"""What the kernel is asked for: parents, births, groups, and who is left over."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_DUMPABLE = 4
_STEP = 0.0005
_PARENT_SECONDS = 5.0


def adopt_orphans() -> None:
    """Be the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, *, after: int = 0) -> bool:
    """Be killed when *parent* ends.

    Args:
        parent: Whose child we are, or will be.
        after: The pid of the one that forked us, where that is another: it ends first, and is
            waited for up to 5 s.

    Returns:
        False where the parent is already gone, or the other does not end.
    """
    deadline = time.monotonic() + _PARENT_SECONDS
    while (found := os.getppid()) != parent:
        if found != after or time.monotonic() > deadline:
            return False
        time.sleep(_STEP)
    # Armed now, not before: it belongs to the parent of the moment. And looked again, since that
    # one may have ended before it was armed.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def be_inspectable() -> None:
    """After a change of user: have /proc/self, which belongs to root since, be that user's."""
    _prctl(_PR_SET_DUMPABLE, 1)


def born_at(pid: int) -> int:
    """Return the start of a process, in clock ticks since boot; 0 where there is none.

    With the boot it tells a pid that was used again.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_stopped(pid: int) -> bool:
    """Tell whether a process was stopped by a signal, and runs nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except OSError:
        return False


def age_of(pid: int) -> float | None:
    """Return for how many seconds a process has lived; None where there is none."""
    born = born_at(pid)
    if not born:
        return None
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return round(max(now - born / os.sysconf("SC_CLK_TCK"), 0), 1)


def boot_number() -> int:
    """Name this boot of the machine, as a 63-bit number."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return int(file.read().strip().replace("-", ""), 16) & (1 << 63) - 1


def strike_group(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to the process group that *pid* leads or led."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def end_leftovers(known: list[tuple[int, int]], within: float) -> list[int]:
    """Kill the processes of (pid, born) that still live, with their groups, and await their end.

    Returns:
        Those that are still there after *within* seconds.
    """
    _end_groups({pid: born for pid, born in known if born})
    living = [(pid, born) for pid, born in known if born and born_at(pid) == born]
    for pid, _ in living:
        strike_group(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + within
    while living and time.monotonic() < deadline:
        time.sleep(0.005)
        living = [(pid, born) for pid, born in living if born_at(pid) == born]
    return [pid for pid, _ in living]


def await_end(pid: int, within: float) -> None:
    """Wait until a process is gone, with all that it held.

    Raises:
        TimeoutError: It is there after *within* seconds.
    """
    deadline = time.monotonic() + within
    while born_at(pid):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def _end_groups(leaders: dict[int, int]) -> None:
    """Kill who is still in the group of a leader that may be gone: what handlers had started.

    A pid is not given again while a group has that number; who started before the leader is not
    of its group all the same.
    """
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            group, born = int(fields[2]), int(fields[19])
            if group in leaders and born >= leaders[group]:
                os.kill(int(name), signal.SIGKILL)


def wake_pipe() -> tuple[int, int]:
    """Make a pipe that wakes a loop: neither end ever waits. Read end first."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


def hear(fd: int) -> None:
    """Empty the read end: it woke us, that was all."""
    with suppress(BlockingIOError):
        os.read(fd, 65536)


def open_many_files() -> None:
    """Take what the hard limit allows: each worker costs its supervisor two descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def os_threads() -> int:
    """Count the threads of this process, native ones too."""
    return len(os.listdir("/proc/self/task"))


def holds_open(path: str) -> bool:
    """Tell whether this process has the file at *path* open."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            there = os.stat(f"/proc/self/fd/{name}")
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
