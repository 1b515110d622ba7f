"""Workers that come after others: they start once those are ready, and stop before them."""

from __future__ import annotations

import os
import signal
import time

import pytest
from supervised import Site, spec_of
from support import eventually

from brokerrun.supervisor.crew import Crew, Steps
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.slot import Phase, Signal

SLOW_START = """
    if os.environ.get("SLOW"):
        os.register_at_fork(after_in_child=lambda: await_file("started"))
"""
NOTES = """
    def first(job):
        note("first", job.body)
        await_file(job.body)
        note("first done", job.body)

    def second(job):
        note("second", job.body)
        await_file(job.body)
        note("second done", job.body)
"""
LIMITS = (5, 30.0), (1.0, 60.0)


def roster_of(**after: tuple[str, ...]) -> Roster:
    specs = (spec_of(name=name, queues=(name,), after=others) for name, others in after.items())
    return Roster(tuple(specs), *LIMITS)


def step(roster: Roster) -> list[str]:
    return carry_out(roster, roster.steps())


def last(roster: Roster) -> list[str]:
    return carry_out(roster, roster.last_steps())


def carry_out(roster: Roster, steps: Steps) -> list[str]:
    """Carry out what the roster yields; list whose process that was."""
    taken = list(steps)
    for place, what in taken:
        roster.signal(place, what, 0.0)
    return [place.spec.name for place, _ in taken]


def ready(roster: Roster, name: str) -> None:
    (place,) = roster.crews[name].places
    roster.signal(place, Signal.READY, 0.0)


def end(roster: Roster, name: str) -> None:
    (place,) = roster.crews[name].places
    roster.signal(place, Signal.EXITED, 0.0)
    roster.settled(place, 0.0, healthy=True, died=False)
    assert place.phase is Phase.DOWN


def test_a_chain_starts_link_by_link_and_stops_the_other_way() -> None:
    roster = roster_of(c=("b",), b=("a",), a=())
    for name in "abc":
        assert not roster.booted
        assert step(roster) == [name]
        assert step(roster) == []
        ready(roster, name)
    assert roster.booted
    for name in "cba":
        assert last(roster) == [name]
        assert last(roster) == []
        end(roster, name)
    assert roster.all_in(Phase.DOWN)


def test_who_begins_in_the_same_round_is_not_booted_yet() -> None:
    roster = roster_of(a=(), b=("a",))
    step(roster)
    ready(roster, "a")
    assert not roster.booted  # b may begin, and has not


def test_one_that_failed_holds_those_after_it_but_not_the_readiness_of_all() -> None:
    roster = roster_of(a=(), b=("a",))
    step(roster)
    (place,) = roster.crews["a"].places
    roster.signal(place, Signal.EXITED, 0.0)
    roster.settled(place, 0.0, healthy=False, died=True)
    assert step(roster) in ([], ["a"])
    assert roster.crews["b"].held
    assert roster.booted or place.phase is Phase.BOOTING


def test_nobody_is_held_again_once_it_began() -> None:
    roster = roster_of(a=(), b=("a",))
    step(roster)
    ready(roster, "a")
    step(roster)
    ready(roster, "b")
    (first,), (second,) = roster.crews["a"].places, roster.crews["b"].places
    roster.signal(first, Signal.EXITED, 0.0)
    roster.signal(second, Signal.EXITED, 0.0)
    roster.settled(second, 0.0, healthy=True, died=True)
    roster.settled(first, 0.0, healthy=True, died=True)
    assert sorted(place.spec.name for place, _ in roster.tick(0.0)) == ["a", "b"]


@pytest.mark.parametrize("how", ["paused", "gone"])
def test_one_that_shall_not_run_holds_nobody(how: str) -> None:
    roster = roster_of(a=(), b=("a",))
    crew: Crew = roster.crews["a"]
    setattr(crew, how, True)
    assert "b" in step(roster)


def test_a_hurried_end_waits_for_no_order(site: Site) -> None:
    site.handlers(NOTES)
    site.configure(first={}, second={"after": ["first"]})
    site.start()
    site.write("second", "never")
    site.noted("second never")
    pids = site.pids()
    site.supervisor.send_signal(signal.SIGTERM)
    eventually(lambda: "supervisor_stopping" in site.log())
    begun = time.monotonic()
    assert site.stop() == 0
    assert time.monotonic() - begun < 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert [message.attempts for message in site.there("second")] == [0]


def test_it_starts_when_the_other_is_ready_and_ends_before_it(site: Site) -> None:
    site.handlers(SLOW_START + NOTES)
    site.configure(first={"env": {"SLOW": "1"}}, second={"after": ["first"]})
    site.write("second", "go")
    site.start(ready=False)
    eventually(lambda: len(site.workers()) == 2, 10)
    (held,) = site.workers("second")
    assert (held["state"], held["reason"], held["pid"]) == ("waiting", "comes after first", None)
    site.release("started")
    site.noted("second go")
    site.write("first", "on")
    site.noted("first on")
    site.supervisor.send_signal(signal.SIGTERM)
    eventually(lambda: "supervisor_stopping" in site.log())
    site.release("on")
    site.noted("first done on")
    site.write("first", "on")  # it works on: the other has not ended
    site.noted("first done on", times=2)
    assert not site.notes("second done")
    site.release("go")
    assert site.ends() == 0
    assert site.notes()[-1] == "second done go"
