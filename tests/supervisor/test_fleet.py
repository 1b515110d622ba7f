"""What becomes of messages under a real `brokerrun up`, whatever their handlers do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from supervised import Site, gone
from support import eventually

from brokerrun import Message
from brokerrun.core.model import Selection
from brokerrun.core.states import State

HANDLERS = """
    # A message names the function that handles it, and its argument.
    def run(job):
        name, _, argument = job.body.partition(" ")
        globals()[name](job, argument)

    peek = move = run

    def fine(job, argument):
        note("fine", job.id, argument)

    def fails(job, argument):
        note("fails", job.id, job.attempt)
        raise ValueError("no such thing")

    def waits(job, argument):
        note("waits", job.id)
        await_file(argument)

    def retries(job, argument):
        if job.attempt == 1:
            raise Retry(0.05, "later")
        note("retries", job.attempt, job.last_error)

    def snoozes(job, argument):
        note("snoozes", job.id, job.attempt)
        if not os.path.exists(HERE + "/awake"):
            raise Snooze(0.05, "tired")

    def dies(job, argument):
        raise Dead("hopeless")

    def drops(job, argument):
        raise Drop("not wanted")

    def deletes_itself(job, argument):
        note("deleted", Broker(HERE + "/.broker.db").delete(job.queue, job.id))
        if argument:
            raise ValueError("after that")

    def raises_base(job, argument):
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}.get(
            argument, BaseException("b")
        )

    def leaves(job, argument):
        note("leaves", job.id, job.attempt)
        os._exit(int(argument))

    def struck(job, argument):
        os.kill(os.getpid(), int(argument))

    class Unsayable(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def raises_unsayable(job, argument):
        raise Unsayable

    def raises_large(job, argument):
        raise ValueError("x" * 10_000_000)

    def raises_surrogates(job, argument):
        raise ValueError("lone \\ud800 surrogate")

    def deep(job, argument):
        deep(job, argument)

    def chained(job, argument):
        try:
            raise KeyError("the first")
        except KeyError as error:
            raise ValueError("the second") from error

    def prints_much(job, argument):
        print("y" * 10_000_000)

    def sleeps(job, argument):
        time.sleep(60)  # here it sleeps

    def locks_with_gil(job, argument):
        # A deadlock in C that keeps the GIL, and that no signal interrupts.
        mutex = ctypes.create_string_buffer(64)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)  # here it locks_with_gil

    def deaf(job, argument):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        while True:
            pass

    def extends(job, argument):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            job.extend(0.5)
            time.sleep(0.05)
        note("extended")

    def extends_once(job, argument):
        job.extend(0.8)
        time.sleep(60)

    def starts_process(job, argument):
        note("started", subprocess.Popen(["sleep", "60"]).pid)
        time.sleep(60)

    def forks_and_returns(job, argument):
        if os.fork() == 0:
            note("the child returns")
            return
        note("the parent returns")

    def forks_and_raises(job, argument):
        if os.fork() == 0:
            raise ValueError("in the child")
        time.sleep(0.2)

    def leaves_mess(job, argument):
        os.chdir("/")
        sys.stdout.close()
        os.close(1)
        threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, before)

    before = signal.getsignal(signal.SIGTERM)

    def says_where(job, argument):
        note("where", os.getcwd())
"""


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one fleet for all tests that harm at most their own worker."""
    site = Site(tmp_path_factory.mktemp("common"))
    site.handlers(HANDLERS)
    keys = {"backoff": ["50ms"], "max_attempts": 3, "timeout": "1s", "processes": 2}
    site.configure(
        instance={"crash_limit": "1000/1s"},
        run={"handler": "handlers:run", "queue": "q", **keys},
        move={"mode": "move", **keys},
    )
    site.start()
    yield site
    assert site.stop() == 0
    site.close()


def put(site: Site, body: str, queue: str = "q") -> int:
    return site.write(queue, body)[0]


def there(site: Site, queue: str, ident: int) -> Message | None:
    return next((message for message in site.there(queue) if message.id == ident), None)


def ended(site: Site, ident: int, within: float = 6) -> None:
    """Wait until the message is nowhere but, it may be, among the dead."""
    alive = ("q", "move", "move.in-process")
    eventually(lambda: not any(there(site, queue, ident) for queue in alive), within)


# ------------------------------------------------------------------------------------- ordinary


@pytest.mark.parametrize("queue", ["q", "move"])
def test_every_message_is_handled_once_and_is_gone(common: Site, queue: str) -> None:
    idents = common.write(queue, *[f"fine {queue}{n}" for n in range(200)])
    for ident in idents:
        ended(common, ident, 10)
    noted = [line for line in common.notes("fine") if line.split()[2].startswith(queue)]
    assert sorted(noted) == sorted(f"fine {i} {queue}{n}" for n, i in enumerate(idents))
    assert not any(map(common.outcomes, idents))


def test_in_peek_mode_a_message_stays_in_its_queue_while_it_runs(common: Site) -> None:
    ident = put(common, "waits go-peek")
    common.noted(f"waits {ident}")
    message = there(common, "q", ident)
    assert message is not None
    assert (message.state, message.attempts) == (State.LEASED, 1)
    assert not common.broker.read("q")
    common.release("go-peek")
    ended(common, ident)


def test_in_move_mode_it_stands_in_the_in_process_queue_and_fails_home(common: Site) -> None:
    ident = put(common, "waits go-move", "move")
    common.noted(f"waits {ident}")
    assert there(common, "move", ident) is None
    message = there(common, "move.in-process", ident)
    assert message is not None
    assert message.state is State.LEASED
    os.kill(next(row["pid"] for row in common.workers("move") if row["message"] == str(ident)), 9)
    common.noted(f"waits {ident}", times=2)
    assert there(common, "move.in-process", ident) is not None
    common.release("go-move")
    ended(common, ident)
    assert there(common, "move.in-process", ident) is None
    assert common.outcomes(ident) == ["died"]


# ------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("queue", ["q", "move"])
def test_a_failing_message_is_dead_after_its_attempts_with_its_history(
    common: Site, queue: str
) -> None:
    ident = put(common, "fails", queue)
    eventually(lambda: there(common, f"{queue}.dlq", ident))
    ended(common, ident)
    history = common.broker.history(ident)
    assert [(a.outcome, a.attempt, a.died) for a in history] == [
        ("failed", 1, 0),
        ("failed", 2, 0),
        ("failed", 3, 1),
    ]
    for attempt in history:
        assert attempt.error == "ValueError: no such thing"
        assert attempt.traceback is not None
        assert 'raise ValueError("no such thing")' in attempt.traceback
        assert attempt.host
        assert attempt.pid
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        assert attempt.started_at <= attempt.ended_at


def test_a_dead_message_that_is_moved_back_runs_again_with_a_fresh_count(common: Site) -> None:
    ident = put(common, "fails")
    eventually(lambda: there(common, "q.dlq", ident))
    before = common.notes().count(f"fails {ident} 1")
    common.broker.move("q.dlq", "q", Selection(id=ident))
    eventually(lambda: there(common, "q.dlq", ident) and len(common.outcomes(ident)) == 6)
    assert common.notes().count(f"fails {ident} 1") == before + 1
    assert [a.attempt for a in common.broker.history(ident)] == [1, 2, 3, 1, 2, 3]


def test_retry_waits_as_long_as_it_says_and_counts_as_an_attempt(common: Site) -> None:
    ident = put(common, "retries")
    common.noted("retries 2 Retry: later")
    ended(common, ident)
    assert common.outcomes(ident) == ["retry"]


def test_snooze_burns_no_attempt_however_often(common: Site) -> None:
    ident = put(common, "snoozes")
    common.noted(f"snoozes {ident} 1", times=5)
    common.release("awake")
    ended(common, ident)
    assert set(common.outcomes(ident)) == {"snooze"}
    assert common.notes("snoozes")[-1] == f"snoozes {ident} 1"


def test_to_snooze_is_not_to_fail(site: Site) -> None:
    site.handlers("def q(job):\n    note('begun')\n    raise Snooze(0.01)\n")
    site.configure(q={})
    site.start()
    site.write("q", "a")
    site.noted("begun", times=3)
    [row] = site.workers("q")
    assert (row["handled"], row["failed"]) == (0, 0)


def test_dead_buries_at_once_with_its_reason(common: Site) -> None:
    ident = put(common, "dies")
    eventually(lambda: there(common, "q.dlq", ident))
    attempt = common.last(ident)
    assert (attempt.outcome, attempt.error, attempt.died) == ("dead", "Dead: hopeless", 1)


def test_drop_deletes_and_history_says_why(common: Site) -> None:
    ident = put(common, "drops")
    attempt = common.last(ident)
    ended(common, ident)
    assert (attempt.outcome, attempt.error, attempt.died) == ("drop", "Drop: not wanted", 0)
    assert there(common, "q.dlq", ident) is None


@pytest.mark.parametrize("argument", ["", "raises"])
def test_a_handler_that_deletes_its_own_message_succeeded(common: Site, argument: str) -> None:
    failed = sum(row["failed"] for row in common.workers())
    before = len(common.notes("deleted"))
    ident = put(common, f"deletes_itself {argument}")
    eventually(lambda: common.notes("deleted")[before:] == ["deleted 1"])
    put(common, "fine next")
    eventually(lambda: not common.there("q"))
    assert common.outcomes(ident) == []
    assert there(common, "q.dlq", ident) is None
    assert sum(row["failed"] for row in common.workers()) == failed


@pytest.mark.parametrize(
    ("argument", "error"),
    [("exit", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt"), ("base", "BaseException: b")],
)
def test_what_is_no_exception_is_a_failure_all_the_same(
    common: Site, argument: str, error: str
) -> None:
    pids = common.pids()
    ident = put(common, f"raises_base {argument}")
    eventually(lambda: there(common, "q.dlq", ident))
    assert {a.error for a in common.broker.history(ident)} == {error}
    assert common.outcomes(ident) == ["failed"] * 3
    assert common.pids() == pids


# ----------------------------------------------------------------- handlers that end their worker


@pytest.mark.parametrize(
    ("body", "status", "signum", "reason"),
    [
        ("leaves 0", 0, None, "worker left with exit status 0"),
        ("leaves 3", 3, None, "worker left with exit status 3"),
        (f"struck {signal.SIGKILL.value}", None, 9, "worker killed by SIGKILL"),
        (f"struck {signal.SIGSEGV.value}", None, 11, "worker killed by SIGSEGV"),
    ],
)
def test_a_message_that_takes_its_worker_down_is_dead_after_its_crashes(
    common: Site, body: str, status: int | None, signum: int | None, reason: str
) -> None:
    ident = put(common, body)
    eventually(lambda: there(common, "q.dlq", ident))
    history = common.broker.history(ident)
    assert [a.outcome for a in history] == ["died", "died"]
    assert {(a.exit_status, a.signal, a.error) for a in history} == {(status, signum, reason)}
    assert all(a.pid for a in history)
    assert common.supervisor.poll() is None


def test_a_handler_that_forks_and_returns_in_the_child_is_done_once(common: Site) -> None:
    ident = put(common, "forks_and_returns")
    common.noted("the parent returns")
    common.noted("the child returns")
    ended(common, ident)
    assert common.notes().count("the parent returns") == 1
    assert common.outcomes(ident) == []


def test_a_handler_that_forks_and_raises_in_the_child_succeeded(common: Site) -> None:
    ident = put(common, "forks_and_raises")
    ended(common, ident)
    assert common.outcomes(ident) == []


# ------------------------------------------------------------------------------- awkward errors


def test_an_error_that_cannot_say_what_it_is_fails_its_message_only(common: Site) -> None:
    ident = put(common, "raises_unsayable")
    attempt = common.last(ident)
    assert (attempt.outcome, attempt.error) == (
        "failed",
        "Unsayable: <RuntimeError in its __str__>",
    )


def test_an_error_of_ten_megabytes_is_cut_in_history(common: Site) -> None:
    attempt = common.last(put(common, "raises_large"))
    assert attempt.error is not None
    assert attempt.traceback is not None
    assert attempt.error.startswith("ValueError: xxxx")
    assert len(attempt.error) == 1000
    assert len(attempt.traceback) <= 20_000


def test_an_error_with_lone_surrogates_is_stored(common: Site) -> None:
    assert (
        common.last(put(common, "raises_surrogates")).error == r"ValueError: lone \ud800 surrogate"
    )


def test_endless_recursion_is_a_failure_with_a_cut_traceback(common: Site) -> None:
    attempt = common.last(put(common, "deep"))
    assert attempt.error is not None
    assert attempt.traceback is not None
    assert attempt.error.startswith("RecursionError")
    assert len(attempt.traceback) <= 20_000


def test_a_chained_error_shows_its_cause(common: Site) -> None:
    traceback = common.last(put(common, "chained")).traceback
    assert traceback is not None
    assert "the first" in traceback
    assert "the second" in traceback


def test_a_handler_that_prints_ten_megabytes_is_fine(common: Site) -> None:
    ident = put(common, "prints_much")
    ended(common, ident)
    assert common.outcomes(ident) == []


def test_a_handler_that_changes_its_folder_closes_stdout_and_leaves_a_thread_harms_nobody(
    common: Site,
) -> None:
    ident = put(common, "leaves_mess")
    ended(common, ident)
    assert common.outcomes(ident) == []
    more = [put(common, "says_where") for _ in range(20)]
    for ident in more:
        ended(common, ident)
    assert not any(map(common.outcomes, more))


# -------------------------------------------------------------------------------------- timeouts


@pytest.mark.parametrize("body", ["sleeps", "locks_with_gil"])
def test_a_message_over_its_timeout_is_killed_and_its_stack_names_the_line(
    common: Site, body: str
) -> None:
    ident = put(common, body)
    attempt = common.last(ident, within=5)
    assert (attempt.outcome, attempt.error) == ("timeout", "over its timeout of 1s")
    assert attempt.traceback is not None
    text = (common.folder / "handlers.py").read_text().splitlines()
    line = next(n for n, said in enumerate(text, 1) if said.endswith(f"# here it {body}"))
    assert f'handlers.py", line {line} in {body}' in attempt.traceback
    common.broker.delete("q", ident)


def test_a_handler_that_is_deaf_to_term_is_killed(common: Site) -> None:
    ident = put(common, "deaf")
    attempt = common.last(ident, within=5)
    assert (attempt.outcome, attempt.signal) == ("timeout", signal.SIGKILL)
    common.broker.delete("q", ident)


def test_extend_keeps_a_slow_message_alive_beyond_its_timeout(common: Site) -> None:
    ident = put(common, "extends")
    common.noted("extended")
    ended(common, ident)
    assert common.outcomes(ident) == []


def test_what_extends_and_then_hangs_is_killed_when_the_extension_is_over(common: Site) -> None:
    ident = put(common, "extends_once")
    attempt = common.last(ident, within=5)
    assert attempt.outcome == "timeout"
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert 1.0 < (attempt.ended_at - attempt.started_at) / 1e9 < 2.5
    common.broker.delete("q", ident)


def test_what_a_handler_started_is_gone_with_its_worker(common: Site) -> None:
    ident = put(common, "starts_process")
    common.last(ident, within=5)
    pid = int(common.notes("started")[0].split()[1])
    eventually(gone([pid]), 1)
    common.broker.delete("q", ident)


def test_what_a_handler_started_is_gone_when_its_worker_dies_by_itself(common: Site) -> None:
    before = len(common.notes("started"))
    ident = put(common, "starts_process")
    pid = int(eventually(lambda: common.notes("started")[before:])[0].split()[1])
    worker = next(row["pid"] for row in common.workers() if row["message"] == str(ident))
    os.kill(worker, signal.SIGKILL)
    eventually(gone([pid]), 1)
    common.broker.delete("q", ident)


def test_two_timeouts_are_no_crashes(common: Site) -> None:
    ident = put(common, "locks_with_gil")
    eventually(lambda: there(common, "q.dlq", ident), 12)
    assert common.outcomes(ident) == ["timeout"] * 3
