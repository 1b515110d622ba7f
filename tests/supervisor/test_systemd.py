"""What a service manager hears from a real supervisor, and what no child of it sees."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from threading import Event

import pytest
from supervised import Site, spec_of
from support import eventually

from brokerrun.core.owners import new_guardian
from brokerrun.core.store import Store
from brokerrun.errors import StoreBusy
from brokerrun.supervisor.keeper import Keeper
from brokerrun.supervisor.logs import logger
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.slot import Act, Signal
from brokerrun.supervisor.systemd import Facts, ServiceManager, Talk, describe

ONE = """
    def q(job):
        note("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
    """
_FACTS = Facts(now=100.0, ready=True, stopping=False, status="2 of 2", beats=1)
_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH = 0x4206, 0x4207, 17


class Manager:
    """The end of systemd: each datagram as a list of its lines, in order."""

    def __init__(self, address: str):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._heard: list[list[str]] = []

    def heard(self) -> list[list[str]]:
        while True:
            try:
                self._heard.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return self._heard

    def lines(self, first: str = "") -> list[str]:
        return [line for said in self.heard() for line in said if line.startswith(first)]

    def hears(self, line: str, within: float = 10) -> None:
        eventually(lambda: line in self.lines(), within)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


# --------------------------------------------------------------------------------- real supervisors


def test_a_life_is_told_from_the_first_fleet_to_the_end(site: Site, manager: Manager) -> None:
    site.handlers("await_file('import')\n" + dedent(ONE))
    site.configure(q={"processes": 2})
    site.start(ready=False, NOTIFY_SOCKET=manager.address)
    manager.hears("STATUS=0 of 2 processes ready")
    assert "READY=1" not in manager.lines()
    site.release("import")
    manager.hears("READY=1")
    assert [row["state"] for row in site.workers()] == ["idle", "idle"]
    manager.hears("STATUS=2 of 2 processes ready")
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    site.supervisor.terminate()
    manager.hears("STATUS=stopping: 1 of 2 processes finish what they have in hand")
    eventually(lambda: len(manager.lines("EXTEND_TIMEOUT_USEC=10000000")) == 2)  # and so on
    site.release("wait-a")
    assert site.ends() == 0
    assert manager.lines("READY") == ["READY=1"]
    assert ["STOPPING=1", "EXTEND_TIMEOUT_USEC=10000000"] in [said[:2] for said in manager.heard()]
    assert manager.heard()[-1] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000"]
    assert not manager.lines("WATCHDOG")


def test_an_abstract_address_is_spoken_to(site: Site) -> None:
    manager = Manager(f"@brokerrun-test-{os.getpid()}")
    site.handlers(ONE)
    site.configure(q={})
    site.start(NOTIFY_SOCKET=manager.address)
    manager.hears("READY=1")
    manager.close()
    assert site.stop() == 0  # nor is it missed when it is gone


def test_a_worker_that_cannot_start_does_not_hold_readiness_back(
    site: Site, manager: Manager
) -> None:
    site.handlers(ONE)
    # Importable, and each process that is forked from it dies at its start.
    site.handlers("os.register_at_fork(after_in_child=lambda: os._exit(3))\ndef b(job): ...\n", "b")
    crashes = {"crash_limit": "1/30s", "crash_backoff": "1m..1m"}
    bad = {"handler": "b:b", "env": {"ITS": "own template"}, "boot_timeout": "300ms"}
    site.configure(instance=crashes, q={}, bad=bad)
    site.start(ready=False, NOTIFY_SOCKET=manager.address)
    manager.hears("READY=1")
    eventually(lambda: any("bad.1 backs off: " in line for line in manager.lines("STATUS")), 10)
    assert site.stop() == 0


def test_signs_of_life_come_from_the_loop_and_the_keeper_together(
    site: Site, manager: Manager
) -> None:
    site.handlers(ONE)
    site.configure(q={})
    process = site.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000")

    def beats() -> int:
        return len(manager.lines("WATCHDOG=1"))

    def silent() -> bool:
        before, end = beats(), time.monotonic() + 1.2
        eventually(lambda: time.monotonic() > end)
        return beats() - before <= 1  # one may have been under way

    seen = beats()
    eventually(lambda: beats() >= seen + 2)
    with _halted_thread(_keeper(process.pid)):
        assert silent(), "the keeper stands still"
    seen = beats()
    eventually(lambda: beats() >= seen + 2)
    process.send_signal(signal.SIGSTOP)
    assert silent(), "the loop stands still"
    process.send_signal(signal.SIGCONT)
    seen = beats()
    eventually(lambda: beats() >= seen + 2)
    assert site.stop() == 0


def test_a_keeper_that_waits_for_a_busy_store_lives(site: Site) -> None:
    site.write("q", "m")
    keeper = Keeper(site.database, new_guardian(), {}, 60.0, logger())
    keeper.start()
    free, done = Event(), Event()

    def job(store: Store) -> None:
        if not free.is_set():
            raise StoreBusy(site.database)

    keeper.ask(job, lambda value: done.set())
    seen = keeper.beats
    eventually(lambda: keeper.beats >= seen + 3)
    free.set()
    keeper.finish(5)
    keeper.answers()
    assert done.is_set()


def test_the_watchdog_of_another_process_is_left_alone(site: Site, manager: Manager) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    manager.hears("READY=1")
    assert site.stop() == 0
    assert not manager.lines("WATCHDOG")


def test_no_child_sees_what_the_manager_told_the_supervisor(site: Site, manager: Manager) -> None:
    site.handlers("""
        def q(job):
            seen = subprocess.run(["env"], capture_output=True, text=True).stdout + str(os.environ)
            note("leaks", *(n for n in ("NOTIFY_", "WATCHDOG_", "LISTEN_") if n in seen))
        """)
    site.configure(q={})
    site.start(
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="9000000",
        WATCHDOG_PID=str(os.getpid()),
        LISTEN_FDS="1",
        LISTEN_PID="1",
        LISTEN_FDNAMES="x",
    )
    site.write("q", "m")
    site.noted("leaks")
    for pid in [*site.templates(), *site.pids()]:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NOTIFY_" not in environ
        assert b"WATCHDOG_" not in environ
        assert b"LISTEN_" not in environ


# ----------------------------------------------------------------------------- what is chosen, pure


def test_each_state_is_said_once_and_status_at_most_once_a_second() -> None:
    talk = Talk()
    assert talk.news(replace(_FACTS, ready=False)) == {"STATUS": "2 of 2"}
    assert talk.news(_FACTS) == {"READY": "1"}
    assert talk.news(replace(_FACTS, now=100.5, status="1 of 2")) == {}
    assert talk.news(replace(_FACTS, now=101.0, status="1 of 2")) == {"STATUS": "1 of 2"}
    assert talk.news(replace(_FACTS, now=109.0, status="1 of 2")) == {}


def test_a_reload_is_said_with_its_moment_and_ends_with_ready() -> None:
    talk = Talk()
    talk.news(_FACTS)
    assert talk.reloading(101.5) == {"RELOADING": "1", "MONOTONIC_USEC": "101500000"}
    assert talk.news(_FACTS) == {}
    talk.reloaded()
    assert talk.news(_FACTS) == {"READY": "1"}
    assert talk.news(_FACTS) == {}


@pytest.mark.parametrize(
    ("now", "beats", "said"),
    [(101.0, 2, False), (102.0, 2, True), (102.0, 1, False), (900.0, 1, False)],
)
def test_a_sign_of_life_needs_half_the_time_and_a_keeper_that_moves(
    now: float, beats: int, said: bool
) -> None:
    talk = Talk(watchdog=4.0)
    assert talk.news(_FACTS)["WATCHDOG"] == "1"
    assert ("WATCHDOG" in talk.news(replace(_FACTS, now=now, beats=beats))) is said


def test_what_the_manager_has_no_room_for_comes_with_the_next_word(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    ours = ServiceManager({"NOTIFY_SOCKET": manager.address}, 1)
    fillers = _fill(manager.address)
    ours.tell(_FACTS)
    assert manager.lines("READY") == []
    ours.tell(replace(_FACTS, now=105.0, status="1 of 2"))
    assert manager.heard()[fillers:] == [["READY=1", "STATUS=1 of 2"]]
    manager.close()


def test_the_fleet_in_one_line() -> None:
    roster = Roster((spec_of(processes=3),), (5, 30.0), (1.0, 60.0))
    places = roster.places
    for place, start in list(roster.steps()):
        roster.signal(place, start, 0.0)
    assert not roster.booted
    for place in places[:2]:
        roster.signal(place, Signal.READY, 0.0)
    roster.signal(places[2], Signal.EXITED, 0.0)
    assert roster.booted
    roster.settled(places[2], 0.0, healthy=False, died=True)
    assert [act for _, act in roster.tick(0.0)] == [Act.SPAWN]
    assert roster.booted  # its second start is not the first
    assert describe(places, stopping=False) == "2 of 3 processes ready"
    places[2].looping, places[2].reason = True, "worker killed by\nSIGSEGV"
    line = "2 of 3 processes ready; w.3 backs off: worker killed by SIGSEGV"
    assert describe(places, stopping=False) == line


# ------------------------------------------------------------------------------------------ helpers


def _fill(address: str) -> int:
    """Send until the queue of the receiver, not the buffer of one sender, has no room."""
    sent = 0
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            before = sent
            with suppress(BlockingIOError):
                while other.sendto(b"X=1", address):
                    sent += 1
        if sent == before:
            return sent


def _keeper(pid: int) -> int:
    """Find the thread that is not the first."""
    tasks = eventually(lambda: [int(t) for t in os.listdir(f"/proc/{pid}/task") if int(t) != pid])
    assert len(tasks) == 1
    return int(tasks[0])


@contextmanager
def _halted_thread(tid: int) -> Iterator[None]:
    """Hold one thread of a process still, as a disk that does not answer would."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(_PTRACE_SEIZE, tid, None, None) != 0:
        pytest.skip("this kernel does not let a parent trace its child")
    libc.ptrace(_PTRACE_INTERRUPT, tid, None, None)
    os.waitpid(tid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(_PTRACE_DETACH, tid, None, None)
