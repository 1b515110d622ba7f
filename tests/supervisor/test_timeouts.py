"""A message over its timeout ends within half a second of it, whatever it does, and says where."""

from __future__ import annotations

import os
import signal

import pytest
from supervised import Site
from support import eventually

TIMEOUT = 0.3
MOST_OVER = 0.5
HANGS = """
    import re

    def q(job):
        note("begun", job.id, os.getpid())
        globals()[job.body]()

    def loop():
        while True: pass

    def sleep():
        time.sleep(60)

    def regex():
        re.match("(a+)+b", "a" * 60)

    def keeps_gil():
        # A deadlock in C that keeps the GIL, and that no signal interrupts.
        mutex = ctypes.create_string_buffer(64)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

    def gives_gil():
        mutex = ctypes.create_string_buffer(64)
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

    def stopped():
        os.kill(os.getpid(), signal.SIGSTOP)

    def thread():
        threading.Thread(target=sleep, daemon=True).start()
        loop()
"""
KINDS = ["loop", "sleep", "regex", "keeps_gil", "gives_gil", "stopped", "thread"]


def time_over(site: Site, kind: str) -> float:
    """Let a message hang in that way; return by how many seconds it outlived its timeout."""
    (ident,) = site.write("q", kind)
    attempt = site.last(ident, 5)
    assert (attempt.outcome, attempt.attempt, attempt.died) == ("timeout", 1, 1)
    stack = attempt.traceback or ""
    if kind == "stopped":
        assert attempt.error == f"over its timeout of {TIMEOUT}s, while its process was stopped"
    else:
        assert f"in {kind}\n" in stack
        assert "in q\n" in stack
    assert stack.count("in sleep\n") == (kind in ("sleep", "thread"))
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    return (attempt.ended_at - attempt.started_at) / 1e9 - TIMEOUT


def hanging(site: Site, rounds: int) -> dict[str, float]:
    """Return the worst of some rounds, by kind."""
    site.handlers(HANGS)
    site.configure(
        instance={"crash_limit": "1000/1s"},
        q={"timeout": f"{TIMEOUT * 1000:g}ms", "max_attempts": 1},
    )
    site.start()
    worst = {kind: max(time_over(site, kind) for _ in range(rounds)) for kind in KINDS}
    assert site.stop() == 0
    return worst


def test_whatever_hangs_ends_in_time_and_says_where(site: Site) -> None:
    worst = hanging(site, 1)
    assert max(worst.values()) < MOST_OVER, worst
    assert len(site.ids("q.dlq")) == len(KINDS)


@pytest.mark.slow
def test_whatever_hangs_ends_in_time_twenty_times(site: Site) -> None:
    worst = hanging(site, 20)
    print({kind: round(seconds, 3) for kind, seconds in worst.items()})
    assert max(worst.values()) < MOST_OVER, worst


def test_a_stack_that_was_asked_for_before_is_not_told_as_that_of_the_timeout(site: Site) -> None:
    site.handlers("""
        def before():
            note("before")
            await_file("go")

        def q(job):
            before()
            after()

        def after():
            time.sleep(60)
    """)
    site.configure(q={"timeout": "2s", "max_attempts": 1})
    site.start()
    (ident,) = site.write("q", "m")
    site.noted("before")
    assert "in before" in site.ask({"do": "stack", "worker": "q"})["stacks"][0]["stack"]
    site.release("go")
    stack = site.last(ident).traceback or ""
    assert "in after\n" in stack
    assert "in before\n" not in stack


def test_a_stopped_worker_without_a_message_harms_nobody(site: Site) -> None:
    site.handlers(HANGS)
    site.configure(q={"timeout": "200ms", "processes": 2})
    site.start()
    stopped = site.pids()[0]
    site.halt(stopped)
    site.write("q", *["unknown"] * 3)
    eventually(lambda: len(site.notes("begun")) >= 3)
    os.kill(stopped, signal.SIGCONT)
    assert site.stop() == 0
