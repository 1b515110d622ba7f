"""`up --watch`: what counts as a change, and that the watching process harms nobody."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervised import Site, gone
from support import eventually

from brokerrun import Broker
from brokerrun.supervisor.reloader import Watched, start

BURST_SECONDS = 0.9  # a burst of changes is one, and nothing comes after it


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Be a supervisor whose folder is watched; tell how often we were asked to reload."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "handlers.py").write_text("")
    (tmp_path / "workers.toml").write_text("")
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    file = str(tmp_path / "workers.toml")
    pid = start(Watched(os.getpid(), file, [str(tmp_path)], "logfmt", "error"))
    tried = 0

    def watching() -> bool:
        nonlocal tried
        tried += 1
        (tmp_path / "probe.py").write_text(str(tried))
        end = time.monotonic() + 0.2
        eventually(lambda: heard or time.monotonic() > end)
        return bool(heard)

    eventually(watching, 10)
    _quiet(heard)
    heard.clear()
    yield lambda: len(heard)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    signal.signal(signal.SIGHUP, before)


def test_a_burst_of_changes_is_one_request(tmp_path: Path, requests: Callable[[], int]) -> None:
    for count, name in enumerate(["handlers.py", "lib/new.py", "workers.toml"], 1):
        for text in "abc":
            new = tmp_path / "written.tmp"
            new.write_text(text)
            new.rename(tmp_path / name)  # as editors do
        eventually(lambda count=count: requests() == count)
        end = time.monotonic() + BURST_SECONDS
        eventually(lambda end=end: time.monotonic() > end)
        assert requests() == count, name


def test_what_the_workers_themselves_write_is_no_change(
    tmp_path: Path, requests: Callable[[], int]
) -> None:
    (tmp_path / "__pycache__").mkdir()
    with Broker(str(tmp_path / ".broker.db")) as broker:
        broker.write("q", "m")
        (tmp_path / "out.txt").write_text("x")
        (tmp_path / "__pycache__" / "handlers.cpython-311.pyc").write_text("x")
        end = time.monotonic() + BURST_SECONDS
        eventually(lambda: time.monotonic() > end)
    assert requests() == 0


def test_the_process_that_watches_is_replaced_and_goes_with_its_supervisor(site: Site) -> None:
    site.handlers("def q(job): note('done', job.body)\n")
    site.configure(q={})
    site.start("--watch")
    watcher = eventually(lambda: site.titled("brokerrun: reloader"))[0]
    workers = site.pids()
    eventually(lambda: _touch(site) or "event=files_changed" in site.log(), 10)
    os.kill(watcher, signal.SIGKILL)
    second = eventually(
        lambda: [pid for pid in site.titled("brokerrun: reloader") if pid != watcher], 10
    )
    site.write("q", "m")
    site.noted("done m")
    assert site.pids() == workers
    site.supervisor.kill()
    eventually(gone(second))


def _touch(site: Site) -> None:
    """Change a file: that it watches is not to be seen before it has seen one."""
    (site.folder / "lib.py").write_text(str(time.monotonic()))


def _quiet(heard: list[int]) -> None:
    """Wait until nothing was heard for a while."""
    seen, since = len(heard), time.monotonic()

    def long_ago() -> bool:
        nonlocal seen, since
        if len(heard) != seen:
            seen, since = len(heard), time.monotonic()
        return time.monotonic() > since + 0.8

    eventually(long_ago)
