"""What is asked of it, and of others beside it: S17 to S19, S23, S31, S33."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil
from supervised import Site

from faults.figure import Figure
from faults.ground import STAMP, command, measures, moment, open_site, request, slowly

HANDLERS = """
    def q(job):
        stamp("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
        note("done", job.body)
"""
CLIENTS, REQUESTS = 50, 20
BARE = [sys.executable, "-c", "pass"]


class Client:
    """One connection that asks for the status again as soon as it is answered."""

    def __init__(self, path: str):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.taken: list[float] = []
        self._received = b""

    def ask(self) -> None:
        self._asked = time.monotonic()
        self.socket.sendall(request(do="status"))

    def read(self) -> bool:
        """Read what there is; tell whether the answer is whole."""
        received = self.socket.recv(65536)
        assert received, "the supervisor hung up"
        self._received += received
        if not self._received.endswith(b"\n"):
            return False
        self.taken.append(time.monotonic() - self._asked)
        assert b'"state":"up"' in self._received, self._received
        self._received = b""
        return True


def storm(path: str, clients: int, requests: int) -> list[float]:
    """Let so many ask at once, again and again; return how long each answer took.

    One thread with one selector, and no answer is decoded: what is waited for is the supervisor.
    """
    all_of_them = [Client(path) for _ in range(clients)]
    with selectors.DefaultSelector() as selector:
        for client in all_of_them:
            selector.register(client.socket, selectors.EVENT_READ, client)
        for client in all_of_them:
            client.ask()
        while selector.get_map():
            ready = selector.select(10)
            assert ready, "no answer for 10 s"
            for key, _ in ready:
                if key.data.read() and len(key.data.taken) < requests:
                    key.data.ask()
                elif len(key.data.taken) == requests:
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
    return [seconds for client in all_of_them for seconds in client.taken]


def control_storm(rounds: int) -> Iterator[Figure]:
    """A round: 50 clients, 20 requests each; then one client, 1000 requests."""
    many, alone, used = [], [], []
    with open_site() as site:
        path = _up(site, processes=4)
        supervisor = psutil.Process(site.supervisor.pid)
        for _ in range(rounds):
            before = sum(supervisor.cpu_times()[:2])
            many += storm(path, CLIENTS, REQUESTS)
            used.append((sum(supervisor.cpu_times()[:2]) - before) / (CLIENTS * REQUESTS))
            alone += storm(path, 1, CLIENTS * REQUESTS)
    goal = {"median": 0.02, "p99": 0.02}
    yield Figure("S17", f"status, {CLIENTS} clients at once, always asking", many, "ms", goal)
    yield Figure("S17", "status, one client", alone, "ms", {"p99": 0.02})
    yield Figure("S17", "the supervisor's CPU for an answer", used, "ms")
    missing = rounds * CLIENTS * REQUESTS - len(many)
    yield Figure("S17", "requests not answered", [missing], "", {"worst": 0}, rounds)


def _up(site: Site, **keys: object) -> str:
    """Start a fleet, and name its socket."""
    site.handlers(STAMP + HANDLERS)
    site.configure(q=keys)
    site.start()
    (path,) = (site.folder / "run").iterdir()
    return str(path)


def status_down(rounds: int) -> Iterator[Figure]:
    """A round: `brokerrun status` while it runs, hangs (stopped) and is down, beside a bare Python.

    Down, it was killed with two messages in hand.
    """
    bare, up, hung, down = [], [], [], []
    with open_site() as site:
        _up(site, processes=2)
        site.write("q", "wait-a", "wait-b")
        moment(site, "begun", "wait-a")
        moment(site, "begun", "wait-b")
        words = command(site, "status", "--json")
        for _ in range(rounds):
            bare.append(_seconds(BARE, 0))
            up.append(_seconds(words, 0))
        site.halt(site.supervisor.pid)
        hung = [_seconds(words, 4) for _ in range(rounds)]
        site.supervisor.send_signal(signal.SIGCONT)
        site.supervisor.kill()
        site.supervisor.wait()
        for _ in range(rounds):
            bare.append(_seconds(BARE, 0))
            down.append(_seconds(words, 3, says=b'"held": 2'))
    yield Figure("S18", "a bare Python, start to end", bare, "ms")
    yield Figure("S18", "status of one that is up", up, "ms")
    yield Figure("S18", "status of one that hangs (exit 4)", hung, "ms", {"median": 0.15})
    yield Figure("S18", "status of one that is down (exit 3, held 2)", down, "ms", {"median": 0.15})


def _seconds(words: list[str], status: int, says: bytes = b"") -> float:
    begun = time.monotonic()
    done = subprocess.run(words, capture_output=True, timeout=30)
    taken = time.monotonic() - begun
    assert done.returncode == status, done
    assert says in done.stdout, done
    return taken


def two_supervisors(rounds: int) -> Iterator[Figure]:
    """A round: a second `up` of the same name; then 400 messages for two of different names."""
    refused, wrong = [], 0
    with open_site() as site:
        _up(site, processes=2)
        for _ in range(rounds):
            refused.append(_seconds(command(site, "up"), 75))
        other = site.start(ready=False, BROKERRUN_NAME="second")
        slowly(lambda: site.log().count("event=supervisor_started") == 2, 10)
        bodies = [f"{n}" for n in range(400 * rounds)]
        for body in bodies:
            site.write("q", body)
        site.empty("q", 60)
        done = Counter(site.notes("done"))
        wrong = sum(done[f"done {body}"] != 1 for body in bodies)
        other.terminate()
        assert other.wait(10) == 0
    yield Figure("S19", "a second `up` of the name, start to exit 75", refused, "ms", {"worst": 1})
    what = f"two names, {len(bodies)} messages: handled otherwise than once"
    yield Figure("S19", what, [wrong], "", {"worst": 0}, rounds)


def cron(rounds: int) -> Iterator[Figure]:
    """A round: `up --drain --if-not-running` while another one works, beside a bare Python."""
    with open_site() as site:
        site.handlers(STAMP + HANDLERS)
        site.configure(q={})
        site.write("q", "wait-a")
        first = site.start("--drain", "--if-not-running", ready=False)
        moment(site, "begun", "wait-a")
        words = command(site, "up", "--drain", "--if-not-running")
        pairs = [(_seconds(BARE, 0), _seconds(words, 0)) for _ in range(rounds)]
        site.release("wait-a")
        assert first.wait(10) == 0
        assert len(site.notes("begun")) == 1
    bare, second = zip(*pairs, strict=True)
    yield Figure("S23", "a bare Python, start to end", bare, "ms")
    yield Figure("S23", "`up --drain --if-not-running` beside one", second, "ms", {"median": 0.2})


def stack(rounds: int) -> Iterator[Figure]:
    """A round: the stack of a worker in each of five ways to be busy: over the socket, then by
    the command; the worker and its message go on."""
    looking = measures("supervisor/test_looking")
    asked, commanded = [], []
    with open_site() as site:
        site.handlers(looking.HANGS)
        site.configure(q={})
        site.start()
        pids = site.pids()
        for body in [f"{kind} 1.{n}" for n in range(rounds) for kind in looking.KINDS]:
            site.write("q", body)
            site.noted(f"begun {body}")
            seconds, row = looking.timed_stack(site, "q.1")
            assert f"in {body.split()[0]}" in row["stack"], row
            asked.append(seconds)
            commanded.append(_seconds(command(site, "stack", "q.1"), 0))
            site.noted(f"done {body}", 10)
        harmed = int(site.pids() != pids or len(site.notes("begun")) != len(asked))
    yield Figure("S31", "stack of a running worker, over the socket", asked, "ms", {"worst": 0.5})
    yield Figure("S31", "`brokerrun stack`, start to end", commanded, "ms", {"worst": 0.5})
    yield Figure("S31", "workers harmed", [harmed], "", {"worst": 0}, len(asked))


def cli_speed(rounds: int) -> Iterator[Figure]:
    """A round: the CPU of `brokerrun status`, of one that is up, and of a bare Python."""
    with open_site() as site:
        _up(site, processes=2)
        words = command(site, "status")
        _seconds(words, 0)  # writes the .pyc files
        pairs = [(_cpu_seconds(BARE), _cpu_seconds(words)) for _ in range(rounds)]
    bare, status = zip(*pairs, strict=True)
    more = [theirs - mine for mine, theirs in pairs]
    yield Figure("S33", "CPU of a bare Python", bare, "ms")
    yield Figure("S33", "CPU of `brokerrun status`", status, "ms")
    yield Figure("S33", "the one more than the other", more, "ms", {"median": 0.06})


def _cpu_seconds(words: list[str]) -> float:
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, words
    return used.ru_utime + used.ru_stime
