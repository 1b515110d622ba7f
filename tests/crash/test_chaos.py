"""Workers, templates, supervisors and writers are killed, halted and stopped at random.

Nothing promised is lost, nothing runs again but what a killed process had in hand, and the fleet
is whole again soon.
"""

from __future__ import annotations

import os
import signal

import pytest
from crash.chaos import Chaos
from crash.chaos_fleet import producer
from crash.chaos_judge import Verdict, nothing_is_left
from supervised import Site
from support import eventually

WHOLE_SECONDS = 2.0
ROUND_SECONDS = 10.0
DRAIN_SECONDS = 60.0
SEED = 1325  # brings each kind of fault among the first sixteen


def fire(site: Site, seed: int, seconds: float, rounds: int) -> Chaos:
    """Strike in so many rounds, then let all come to its end."""
    chaos = Chaos(site, seed)
    chaos.begin()
    with producer(site, seed):
        for _ in range(rounds):
            chaos.strike_for(seconds / rounds)
    eventually(lambda: not waiting(site), DRAIN_SECONDS)
    assert site.stop() == 0
    eventually(lambda: not chaos.left(), 2)
    return chaos


def waiting(site: Site) -> list[str]:
    """List the queues in which there is something, but those of the dead."""
    found = [stats.queue for stats in site.broker.queues() if stats.pending]
    return [queue for queue in found if not queue.endswith(".dlq")]


def judge(chaos: Chaos) -> None:
    verdict = Verdict(chaos)
    print(verdict.figures())
    verdict.nothing_is_lost()
    verdict.nothing_is_torn()
    verdict.nobody_shares_a_message()
    verdict.only_the_struck_repeat()
    verdict.history_says_who_died()
    nothing_is_left(chaos.site)
    assert set(chaos.exits) <= {0, -signal.SIGKILL}


def test_eight_seconds_of_faults_lose_nothing_and_repeat_what_was_in_hand(site: Site) -> None:
    chaos = fire(site, seed=SEED, seconds=7.5, rounds=3)
    judge(chaos)
    assert min(chaos.recoveries)[0] < WHOLE_SECONDS  # the others too, where nobody else is at work


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_minutes_of_faults_lose_nothing_and_repeat_what_was_in_hand(site: Site) -> None:
    """For CHAOS_SECONDS seconds, in the order that CHAOS_SEED says; with `-s` it prints figures."""
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    seed = int(os.environ.get("CHAOS_SEED", "2"))
    chaos = fire(site, seed, seconds, max(round(seconds / ROUND_SECONDS), 1))
    judge(chaos)
    assert max(chaos.recoveries)[0] < WHOLE_SECONDS
