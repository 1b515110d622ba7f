"""Where the figures are taken: sites that end with all they started, and clocks of the kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import psutil
from supervised import Site, gone
from support import eventually

from brokerrun.core.backends import open_store
from brokerrun.core.model import FleetEvent

# A note that begins with the moment of it: the clock that it uses is one for all processes.
STAMP = """
    def stamp(word, *more):
        note(word, time.monotonic_ns(), *more)
"""
# No back-off because of deaths that we cause.
PATIENT = {"crash_limit": "100000/1s"}


@contextmanager
def open_site() -> Iterator[Site]:
    """Make a site in a folder of its own; neither a process nor a file of it stays."""
    with tempfile.TemporaryDirectory(prefix="brokerrun-bench-") as folder:
        site = Site(Path(folder))
        try:
            yield site
        finally:
            left = [p.pid for p in psutil.Process().children(recursive=True)]
            site.close()
            eventually(lambda: _ended(left), 10)


def _ended(pids: Sequence[int]) -> bool:
    """Tell whether none lives; a second supervisor's, or a stopped one, is killed."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return gone(pids)()


def stamps(site: Site, word: str) -> list[list[str]]:
    """List what was stamped with that word: the moment in seconds, then the rest."""
    return [line.split(" ")[1:] for line in site.notes(word)]


def moment(site: Site, word: str, body: str, times: int = 1, within: float = 30) -> float:
    """Wait until a body was stamped so often; return when that was, in monotonic seconds."""

    def found() -> list[list[str]]:
        return [words for words in stamps(site, word) if words[1] == body][times - 1 :]

    return int(eventually(found, within)[0][0]) / 1e9


def seconds_until_gone(pids: Sequence[int], act: Callable[[], object], within: float = 30) -> float:
    """Act, and return after how long the last of these processes ended, as the kernel tells it."""
    files = [os.pidfd_open(pid) for pid in pids]
    poll, waited = select.poll(), set(files)
    for file in files:
        poll.register(file, select.POLLIN)
    begun = time.monotonic()
    try:
        act()
        while waited:
            left = begun + within - time.monotonic()
            ended = {file for file, _ in poll.poll(max(left, 0) * 1000)}
            assert ended, f"{len(waited)} processes live after {within} s"
            for file in ended:
                poll.unregister(file)
            waited -= ended
        return time.monotonic() - begun
    finally:
        for file in files:
            os.close(file)


def seconds_to_exit(site: Site, act: Callable[[], object], within: float = 30) -> float:
    """Act, and return after how long the supervisor had left with 0."""
    taken = seconds_until_gone([site.supervisor.pid], act, within)
    status = site.supervisor.wait(within)
    assert status == 0, f"exit status {status}: {site.log()}"
    return taken


def events(site: Site, name: str) -> list[FleetEvent]:
    """List what happened to the fleet under that name, oldest first."""
    store = open_store(site.database, create=False)
    try:
        return [event for event in store.events(10_000) if event.event == name]
    finally:
        store.close()


def slowly(fact: Callable[[], object], within: float, step: float = 0.05) -> None:
    """Wait for a fact, and look so seldom that looking costs those that are measured nothing."""
    deadline = time.monotonic() + within
    while not fact():
        assert time.monotonic() < deadline, f"not within {within} s: {fact}"
        time.sleep(step)


def all_ready(site: Site, processes: int, within: float = 60) -> None:
    """Wait, seldom looking, until so many workers were ready."""
    slowly(lambda: "event=supervisor_started" in site.log(), within)
    slowly(lambda: len(events(site, "worker_ready")) >= processes, within)


def command(site: Site, *words: str) -> list[str]:
    """Name a `brokerrun` command of the site."""
    return [sys.executable, "-m", "brokerrun", *words, "-c", site.config]


def request(**words: object) -> bytes:
    """Write a request to the control socket."""
    return json.dumps(words).encode() + b"\n"


def measures(test: str) -> ModuleType:
    """Load a module of tests for what it measures: `supervisor/test_stopping`."""
    path = Path(__file__).parents[2] / "tests" / f"{test}.py"
    spec = importlib.util.spec_from_file_location(f"measures_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
