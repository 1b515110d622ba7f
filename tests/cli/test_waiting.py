"""`read --wait`: what wakes it, what does not, and what it costs."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
from shell import Shell, end
from support import eventually

from brokerrun.core.backends.sqlite.birth import MIGRATIONS


def writes(broker: Shell) -> int:
    """Count the commits that the log has seen, by its length."""
    return Path(broker.database + "-wal").stat().st_size


def test_one_that_waits_beside_messages_that_it_does_not_mean_writes_nothing(broker: Shell) -> None:
    broker.store.write("q", "too early")
    before = writes(broker)
    assert broker("read q --wait 600ms --after 2100-01-01").status == 2
    assert writes(broker) == before
    assert broker.bodies() == ["too early"]


def test_one_that_waits_has_what_a_killed_process_held_within_a_second_or_so(
    broker: Shell,
) -> None:
    broker.store.write("q", "x")
    holder = broker.start("exec q -- sleep 60")
    eventually(lambda: broker.store.stats("q").running == 1)
    reader = broker.start("read q --wait 20s")
    end(holder, signal.SIGKILL)
    assert reader.wait(timeout=5) == 0
    assert end(reader).out == "x\n"


def test_a_later_version_that_only_the_log_tells_of_is_refused(broker: Shell) -> None:
    broker.store.write("q", "x")  # stays open: the log stays
    other = sqlite3.connect(broker.database, isolation_level=None)
    other.execute("pragma wal_autocheckpoint = 0")
    other.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
    done = broker("read q")
    other.execute(f"pragma user_version = {len(MIGRATIONS)}")
    other.close()
    assert done.status == 1
    assert "of a newer brokerrun" in done.err
    assert broker.bodies() == ["x"]


@pytest.mark.parametrize("verb", ["nack", "exec"])
def test_a_queue_is_not_its_own_dead_letter_queue(broker: Shell, verb: str) -> None:
    broker.store.write("q", "x")
    if verb == "nack":
        receipt = broker("claim q --json").json[0]["receipt"]
        done = broker(f"nack {receipt} --dead --dead-letter q")
    else:
        done = broker("exec q --dead-letter q -- false")
    assert done.status == 1
    assert "'q' is the queue itself" in done.err
    assert broker.one().attempts == (1 if verb == "nack" else 0)
