"""The sqqueue document: its methods, and what its list of wishes asks for.

Its usage texts are run by tests/parity/python.
"""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Talk
from pathlib import Path
from typing import Any

import pytest
from parity.python.snippet import Snippet
from support import Child, eventually

import brokerrun.sqqueue
from brokerrun.core.backends.sqlite.store import SqliteStore
from brokerrun.core.broker import Broker
from brokerrun.core.ids import now_ns
from brokerrun.core.leases import acknowledge, claim_for, receipt_text
from brokerrun.core.model import Selection
from brokerrun.core.retry import Backoff
from brokerrun.core.states import State
from brokerrun.errors import (
    ArgumentError,
    MessageError,
    QueueNameError,
    StoreBusy,
    StoreRefused,
    UsageError,
)
from brokerrun.sqqueue import (
    CompletionError,
    DequeueError,
    EmptyError,
    EnqueueError,
    QueueError,
    RequeueError,
    Result,
    SQLiteQueue,
    record,
)

NAMES = [
    "enqueue",
    "enqueue_batch",
    "dequeue",
    "dequeue_batch",
    "complete",
    "fail_message",
    "requeue",
    "peek",
    "is_empty",
    "recover_processing_messages",
    "get_dead_letters",
    "reprocess_dead_letter",
    "vacuum_database",
    "perform_checkpoint",
    "get_operation_count",
]
CLOCKS = ("brokerrun.core.backends.sqlite.store.now_ns", "brokerrun.sqqueue.queue.now_ns")

# Python 3.12 and later say it where a process with threads forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def queue(database: str) -> Iterator[SQLiteQueue]:
    with SQLiteQueue(database, "jobs") as queue:
        yield queue


@pytest.fixture
def other(database: str) -> Iterator[SQLiteQueue]:
    """Another object on the same queue."""
    with SQLiteQueue(database, "jobs") as other:
        yield other


@pytest.fixture
def broker(database: str) -> Iterator[Broker]:
    with Broker(database) as broker:
        yield broker


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of this process ahead, by seconds."""

    def move(seconds: float) -> None:
        for clock in CLOCKS:
            monkeypatch.setattr(clock, lambda: now_ns() + int(seconds * 10**9))

    return move


def attempts(broker: Broker, ident: int, queue: str = "jobs") -> int:
    [message] = broker.peek(queue, Selection(id=ident))
    return message.attempts


def dead(queue: SQLiteQueue) -> list[int]:
    return [ident for ident, _ in queue.get_dead_letters().value]


def in_thread(work: Callable[[], Any]) -> Any:
    """Do something in a thread of its own; return what came of it."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return found[0]


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as its own process."""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )


# ---------------------------------------------------------------------------------- the document


def test_the_first_usage_text_takes_an_empty_queue_for_empty(tmp_path: Path) -> None:
    text = Snippet("sqqueue_first").program(ours=True)
    done = run(text.replace("dequeued = ", "queue.dequeue(); dequeued = "), tmp_path)
    assert done.stderr == ""  # the requeue fails, and nobody set logging up
    assert done.stdout.splitlines()[1:] == ["Queue is empty.", "There are pending messages."]


def test_the_second_usage_text_runs_as_written(tmp_path: Path) -> None:
    parts = ("sqqueue_operations", "sqqueue_batches", "sqqueue_maintenance")
    done = run("".join(Snippet(part).program(ours=True) for part in parts), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) == 10
    failures = [line.partition(":")[0] for line in said if "failed: " in line]
    assert failures == ["Failing message failed"], "it was completed just before"


def test_every_name_of_the_document_is_there() -> None:
    for name in NAMES:
        assert callable(getattr(SQLiteQueue, name)), name
    for kind in (EnqueueError, DequeueError, CompletionError, RequeueError):
        assert issubclass(kind, QueueError)
    assert not issubclass(QueueNameError, QueueError)


def test_all_arguments_go_by_keyword(database: str) -> None:
    queue = SQLiteQueue(
        db_path=database,
        table_name="jobs",
        vacuum_threshold=7,
        vacuum_on_start=False,
        default_max_attempts=2,
        default_visibility_timeout=0.5,
    )
    assert queue.enqueue_batch(payloads=["a"]).is_ok()
    [(ident, _)] = queue.dequeue_batch(batch_size=1).value
    assert queue.fail_message(message_id=ident, send_to_dlq=True).is_ok()
    assert queue.reprocess_dead_letter(message_id=ident).is_ok()
    assert queue.vacuum_database(conn=None).is_ok()
    assert queue.perform_checkpoint(conn=None).is_ok()


# ---------------------------------------------------------------------------------------- a Result


def test_a_result_says_whether_it_is_ok_and_carries_one_of_two() -> None:
    good: Result[int, EnqueueError] = Result(5)
    assert (good.is_ok(), good.is_err(), good.value, good.error) == (True, False, 5, None)
    error = EnqueueError("no")
    bad: Result[int, EnqueueError] = Result(error=error)
    assert (bad.is_ok(), bad.is_err(), bad.error) == (False, True, error)
    with pytest.raises(EnqueueError) as raised:
        _ = bad.value
    assert raised.value is error
    assert repr(good) == "Result(5)"
    assert repr(bad) == "Result(error=EnqueueError('no'))"


def test_a_result_does_what_its_value_does() -> None:
    pair: Result[tuple[int, str], DequeueError] = Result((5, "x"))
    ident, payload = pair
    assert (ident, payload) == (5, "x")
    assert pair == (5, "x") == pair.value
    number: Result[int, EnqueueError] = Result(5)
    assert f"{number} {number:03d} {number!s}" == "5 005 5"
    assert number == 5 == Result(5)
    assert number != 6
    assert {5: "found"}[number] == "found"  # type: ignore[index]
    assert list(Result([1, 2])) == [1, 2]


@pytest.mark.parametrize("value", [None, False, 0, [], ()])
def test_a_result_with_nothing_in_it_is_false(value: object) -> None:
    assert not Result(value)
    assert Result(value).is_ok()


def test_a_failed_result_is_false_prints_its_error_and_gives_no_value() -> None:
    bad: Result[Any, QueueError] = Result(error=QueueError("no"))
    assert not bad
    assert f"{bad} {bad:>4}" == "no   no"
    same = bad
    assert bad == same
    assert bad != Result(error=QueueError("no"))
    assert bad not in (None, Result(None))
    assert len({bad, Result(error=QueueError("no"))}) == 2
    for use in (lambda: list(bad), lambda: range(bad)):
        with pytest.raises(QueueError):
            use()


def test_a_module_that_uses_results_passes_the_strictest_type_check(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("""\
from brokerrun.sqqueue import DequeueError, EnqueueError, QueueError, Result, SQLiteQueue

def add(queue: SQLiteQueue, text: str) -> int | None:
    result: Result[int, EnqueueError] = queue.enqueue(text)
    if result.is_ok():
        return result.value
    error: EnqueueError | None = result.error
    print(error)
    return None

def work(queue: SQLiteQueue) -> int:
    message_id = queue.enqueue("x")
    queue.complete(message_id)
    taken: Result[tuple[int, str], DequeueError] = queue.dequeue()
    wider: Result[tuple[int, str], QueueError] = taken
    if taken:
        ident, payload = taken
        queue.complete(ident)
    number, text = wider.value
    queue.fail_message(number, send_to_dlq=True)
    for ident, payload in queue.dequeue_batch(2).value:
        queue.requeue(ident)
        print(payload.upper())
    done: Result[None, QueueError] = queue.vacuum_database()
    return queue.get_operation_count() + len(text) + done.is_ok()

reveal_type(SQLiteQueue("q.db").peek().value)
bad: str = SQLiteQueue("q.db").enqueue("x").value
""")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", user],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    faults = checked.stdout.splitlines()
    assert faults[0].endswith('Revealed type is "tuple[int, str]"')
    assert "Incompatible types in assignment" in faults[1]
    assert faults[2] == "Found 1 error in 1 file (checked 1 source file)"
    assert len(faults) == 3


# ------------------------------------------------------------------------------------ construction


@pytest.mark.parametrize(
    "wrong",
    [
        {"db_path": 5},
        {"table_name": None},
        {"vacuum_threshold": "100"},
        {"vacuum_threshold": True},
        {"vacuum_on_start": "no"},
        {"default_max_attempts": 2.5},
        {"default_visibility_timeout": "30s"},
        {"default_visibility_timeout": True},
        {"backoff": 5.0},
        {"config": 5},
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_by_name(
    database: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong)).replace("table_name", "queue")):
        SQLiteQueue(**{"db_path": database, **wrong})
    assert not Path(database).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"vacuum_threshold": -1},
        {"default_max_attempts": 0},
        {"default_max_attempts": 10**9},
        {"default_visibility_timeout": 0},
        {"default_visibility_timeout": -1.0},
        {"default_visibility_timeout": float("inf")},
        {"default_visibility_timeout": float("nan")},
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(database: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SQLiteQueue(database, **wrong)


@pytest.mark.parametrize("name", ["", "a b", "@alias", "-a", "x" * 510])
def test_a_table_name_is_a_queue_name(database: str, name: str) -> None:
    with pytest.raises(QueueNameError):
        SQLiteQueue(database, name)


def test_a_custom_table_name_is_a_queue_like_any_other(database: str, broker: Broker) -> None:
    with SQLiteQueue(database, "custom.queue-1") as queue:
        ident = queue.enqueue("x").value
    assert [message.id for message in broker.read("custom.queue-1")] == [ident]


def test_construction_opens_nothing_unless_it_vacuums(tmp_path: Path) -> None:
    SQLiteQueue(tmp_path / "q.db")
    assert list(tmp_path.iterdir()) == []
    SQLiteQueue(tmp_path / "q.db", vacuum_on_start=True).close()
    assert (tmp_path / "q.db").exists()
    (tmp_path / "foreign").write_text("not a database\n" * 100)
    with pytest.raises(StoreRefused):
        SQLiteQueue(tmp_path / "foreign", vacuum_on_start=True)


def test_a_store_that_cannot_be_used_is_an_error_result(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("not a database\n" * 100)
    queue = SQLiteQueue(tmp_path / "foreign")
    for result in (queue.enqueue("x"), queue.dequeue(), queue.peek(), queue.is_empty()):
        assert isinstance(result.error, QueueError)
        assert isinstance(result.error.__cause__, StoreRefused)
    missing = SQLiteQueue(tmp_path / "no" / "folder" / "q.db")
    assert missing.enqueue("x").is_err()


def test_the_project_file_and_the_environment_say_where_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROKER_DEFAULT_DB_NAME", "named.db")
    monkeypatch.setenv("BROKER_MAX_MESSAGE_SIZE", "2000")
    with SQLiteQueue() as queue:
        assert queue.enqueue("x" * 2000).is_ok()
        assert isinstance(queue.enqueue("x" * 2001).error, EnqueueError)
    assert (tmp_path / "named.db").exists()
    with SQLiteQueue(config={"BROKER_MAX_MESSAGE_SIZE": 3000}) as queue:
        assert queue.enqueue("x" * 2001).is_ok()
    (tmp_path / ".broker.toml").write_text(
        'version = 1\nbackend = "sqlite"\ntarget = "projected.db"\n'
    )
    with SQLiteQueue() as queue:
        assert queue.enqueue("x").is_ok()
    assert (tmp_path / "projected.db").exists()


def test_several_queues_share_a_file_each_with_its_settings(database: str) -> None:
    strict = SQLiteQueue(database, "strict", default_max_attempts=1)
    patient = SQLiteQueue(database, "patient", default_max_attempts=3)
    for queue in (strict, patient):
        ident = queue.enqueue(queue.table_name).value
        assert queue.dequeue() == (ident, queue.table_name)
        assert queue.fail_message(ident).is_ok()
    assert [payload for _, payload in strict.get_dead_letters()] == ["strict"]
    assert strict.is_empty()
    assert not patient.get_dead_letters()
    assert patient.peek().value[1] == "patient"


# --------------------------------------------------------------------------------- the life of one


def test_a_dequeued_message_is_marked_as_processing(queue: SQLiteQueue, broker: Broker) -> None:
    ident = queue.enqueue("payload").value
    assert queue.dequeue().value == (ident, "payload")
    [message] = broker.peek("jobs")
    assert (message.id, message.state, message.attempts) == (ident, State.LEASED, 1)
    assert queue.dequeue().is_err()


def test_messages_come_in_the_order_in_which_they_went_in(queue: SQLiteQueue) -> None:
    given = [queue.enqueue(f"{n}").value for n in range(5)]
    assert [queue.dequeue().value[0] for _ in given] == given


def test_an_empty_queue_is_a_false_result_that_says_so(queue: SQLiteQueue) -> None:
    for result, kind in ((queue.dequeue(), DequeueError), (queue.peek(), QueueError)):
        assert not result
        assert isinstance(result.error, kind)
        assert isinstance(result.error, EmptyError)
        assert "'jobs': the queue is empty" in str(result.error)


def test_a_completed_message_is_gone(queue: SQLiteQueue, broker: Broker) -> None:
    queue.enqueue("x")
    ident, _ = queue.dequeue()
    assert queue.complete(ident).is_ok()
    assert broker.queues() == []
    for again in (queue.complete(ident), queue.requeue(ident), queue.fail_message(ident)):
        assert "is not there" in str(again.error)


def test_a_result_of_enqueue_names_a_message(queue: SQLiteQueue) -> None:
    queue.dequeue()
    ident = queue.enqueue("x")
    assert queue.dequeue().is_ok()
    assert queue.requeue(ident).is_ok()
    assert queue.dequeue().is_ok()
    assert queue.complete(ident).is_ok()


def test_a_failed_message_is_tried_until_its_attempts_are_used_up(
    database: str, broker: Broker
) -> None:
    queue = SQLiteQueue(database, "jobs", default_max_attempts=3)
    given = queue.enqueue("x").value
    for attempt in (1, 2, 3):
        assert queue.get_dead_letters() == []
        assert queue.dequeue().value == (given, "x")
        assert queue.fail_message(given).is_ok()
        assert broker.history(given)[-1].attempt == attempt
    assert queue.dequeue().is_err()
    assert queue.get_dead_letters().value == [(given, "x")]
    [message] = broker.peek("jobs.dlq")
    assert message.id == given
    assert [each.died for each in broker.history(given)] == [0, 0, 1]
    assert all(each.ended_at and each.pid == os.getpid() for each in broker.history(given))


def test_a_message_goes_to_the_dead_letters_at_once_where_that_is_said(queue: SQLiteQueue) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    assert queue.fail_message(ident, send_to_dlq=True).is_ok()
    assert dead(queue) == [ident]
    assert queue.is_empty()


def test_a_pending_message_is_failed_without_a_dequeue(
    database: str, queue: SQLiteQueue, broker: Broker
) -> None:
    first, second = queue.enqueue_batch(["a", "b"]).value
    assert queue.fail_message(second, send_to_dlq=True).is_ok()
    assert dead(queue) == [second]
    assert queue.fail_message(first).is_ok()
    assert attempts(broker, first) == 1
    with SQLiteQueue(database, "jobs", default_max_attempts=2) as impatient:
        assert impatient.fail_message(first).is_ok()
    assert dead(queue) == [first, second]


def test_a_requeued_message_is_back_at_once_whatever_its_attempts(
    database: str, broker: Broker
) -> None:
    queue = SQLiteQueue(database, "jobs", default_max_attempts=2, backoff=Backoff(steps=(60.0,)))
    ident = queue.enqueue("x").value
    for count in (1, 2, 3, 4):
        assert queue.dequeue().value == (ident, "x")
        assert queue.requeue(ident).is_ok()
        assert attempts(broker, ident) == count
    assert queue.get_dead_letters() == []
    queue.dequeue()
    assert queue.fail_message(ident).is_ok()
    assert dead(queue) == [ident]


def test_what_is_only_pending_is_neither_completed_nor_requeued_nor_extended(
    queue: SQLiteQueue,
) -> None:
    ident = queue.enqueue("x").value
    for result, kind in (
        (queue.complete(ident), CompletionError),
        (queue.requeue(ident), RequeueError),
        (queue.extend(ident, 5), QueueError),
    ):
        assert isinstance(result.error, kind)
        assert "is pending: dequeue it first" in str(result.error)
    assert queue.peek().value == (ident, "x")


def test_a_backoff_holds_a_failed_message_up(database: str, later: Callable[[float], None]) -> None:
    queue = SQLiteQueue(database, "jobs", backoff=Backoff(steps=(30.0,)))
    ident = queue.enqueue("x").value
    queue.dequeue()
    queue.fail_message(ident)
    assert queue.dequeue().is_err()
    assert queue.peek().is_err()
    assert not queue.is_empty(), "it is pending"
    later(31)
    assert queue.peek().value == queue.dequeue().value == (ident, "x")


def test_a_dead_letter_is_reprocessed_under_its_id_with_all_attempts(
    database: str, broker: Broker
) -> None:
    queue = SQLiteQueue(database, "jobs", default_max_attempts=2)
    ident, other = queue.enqueue_batch(["x", "y"]).value
    for each in (ident, other):
        queue.fail_message(each, send_to_dlq=True)
    assert queue.get_dead_letters().value == [(ident, "x"), (other, "y")]
    assert queue.reprocess_dead_letter(ident).is_ok()
    assert dead(queue) == [other]
    assert attempts(broker, ident) == 0
    assert queue.dequeue().value == (ident, "x")
    queue.fail_message(ident)
    assert dead(queue) == [other], "one attempt is left"


def test_what_is_no_dead_letter_is_not_reprocessed(queue: SQLiteQueue) -> None:
    ident = queue.enqueue("x").value
    for wrong in (ident, 1):
        result = queue.reprocess_dead_letter(wrong)
        assert isinstance(result.error, RequeueError)
        assert f"message {wrong} is not in 'jobs.dlq'" in str(result.error)


@pytest.mark.parametrize("wrong", ["x", None, 1.5, 0, -1, 2**63, Result("x")])
def test_an_id_that_is_none_is_an_error_result(queue: SQLiteQueue, wrong: Any) -> None:
    results: list[Result[Any, QueueError]] = [
        queue.complete(wrong),
        queue.fail_message(wrong),
        queue.requeue(wrong),
        queue.extend(wrong, 5),
        queue.reprocess_dead_letter(wrong),
    ]
    for result in results:
        assert "message id: expected" in str(result.error)
        assert isinstance(result.error and result.error.__cause__, UsageError)


def test_an_enqueue_that_failed_names_no_message(queue: SQLiteQueue) -> None:
    failed = queue.enqueue("\ud800")
    result = queue.complete(failed)
    assert isinstance(result.error, CompletionError)
    assert result.error.__cause__ is failed.error


# --------------------------------------------------------------------------------------- looking


def test_a_peek_shows_the_next_pending_message_and_changes_nothing(
    queue: SQLiteQueue, broker: Broker
) -> None:
    first, second = queue.enqueue_batch(["a", "b"]).value
    assert queue.peek().value == queue.peek().value == (first, "a")
    assert attempts(broker, first) == 0
    queue.dequeue()
    assert queue.peek().value == (second, "b"), "the first one is being processed"
    assert queue.dequeue().value == (second, "b")
    assert queue.peek().is_err()


def test_only_pending_messages_make_a_queue_not_empty(
    queue: SQLiteQueue, later: Callable[[float], None]
) -> None:
    assert queue.is_empty().value is True
    queue.enqueue_batch(["a", "b"])
    queue.dequeue()
    assert queue.is_empty().value is False
    queue.dequeue()
    assert queue.is_empty().value is True
    later(61)
    assert queue.is_empty().value is False, "the time-out of both is over"
    assert queue.peek().value[1] == "a"


# ------------------------------------------------------------------------------------ the time-out


def test_a_message_is_back_after_the_time_out_of_its_queue_or_its_own(
    database: str, later: Callable[[float], None]
) -> None:
    queue = SQLiteQueue(database, "jobs", default_visibility_timeout=30)
    a, b, c = queue.enqueue_batch(["a", "b", "c"]).value
    assert queue.dequeue().value[0] == a
    assert queue.dequeue(visibility_timeout=300).value[0] == b
    assert queue.dequeue_batch(1, visibility_timeout=3000).value[0][0] == c
    later(29)
    assert queue.dequeue().is_err()
    assert queue.recover_processing_messages().value == 0
    later(31)
    assert queue.recover_processing_messages().value == 1
    assert queue.recover_processing_messages().value == 0
    assert queue.dequeue().value[0] == a
    later(301)
    assert [queue.dequeue().value[0] for _ in range(2)] == [a, b], "dequeue recovers by itself"
    assert queue.dequeue().is_err()


def test_recovery_counts_each_message_once_and_leaves_those_in_time(
    queue: SQLiteQueue, broker: Broker, later: Callable[[float], None]
) -> None:
    queue.enqueue_batch([f"{n}" for n in range(8)])
    over = queue.dequeue_batch(3, visibility_timeout=10).value
    kept = queue.dequeue_batch(2, visibility_timeout=100).value
    later(11)
    assert queue.recover_processing_messages().value == len(over)
    states = {message.id: message.state for message in broker.peek("jobs", Selection(limit=None))}
    assert [ident for ident, state in states.items() if state is State.LEASED] == [
        ident for ident, _ in kept
    ]
    assert {attempts(broker, ident) for ident, _ in over} == {1}, "the attempt stays counted"


def test_a_time_out_is_extended(queue: SQLiteQueue, later: Callable[[float], None]) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    assert queue.extend(ident, 100).is_ok()
    later(99)
    assert queue.recover_processing_messages() == 0
    assert queue.complete(ident).is_ok()
    assert queue.extend(ident, 100).is_err()


@pytest.mark.parametrize("wrong", ["5", 0, -1, float("inf"), True])
def test_a_time_out_that_is_none_takes_nothing(queue: SQLiteQueue, wrong: Any) -> None:
    ident = queue.enqueue("x").value
    for result in (queue.dequeue(wrong), queue.dequeue_batch(1, wrong), queue.extend(ident, wrong)):
        assert "visibility_timeout: expected" in str(result.error)
    assert queue.peek().is_ok()


@pytest.mark.parametrize("settle", ["complete", "fail_message", "requeue", "extend"])
@pytest.mark.parametrize("held", [True, False])
def test_a_late_answer_is_an_error_and_touches_nothing(
    queue: SQLiteQueue,
    other: SQLiteQueue,
    broker: Broker,
    later: Callable[[float], None],
    settle: str,
    held: bool,
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    later(11)
    assert other.recover_processing_messages() == 1
    if held:
        assert other.dequeue().value == (ident, "x")
    before = broker.peek("jobs")
    answer: dict[str, Callable[[], Result[None, QueueError]]] = {
        "complete": lambda: queue.complete(ident),
        "fail_message": lambda: queue.fail_message(ident, send_to_dlq=True),
        "requeue": lambda: queue.requeue(ident),
        "extend": lambda: queue.extend(ident, 100),
    }
    for _ in range(2):  # a second try is no better
        assert f"message {ident} was lost" in str(answer[settle]().error)
    assert broker.peek("jobs") == before
    assert broker.history(ident) == []
    if held:
        assert other.complete(ident).is_ok()


def test_an_answer_in_time_or_late_that_nobody_else_used_counts(
    queue: SQLiteQueue, later: Callable[[float], None]
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    later(11)
    assert queue.complete(ident).is_ok()


def test_what_was_deleted_meanwhile_is_lost(queue: SQLiteQueue, broker: Broker) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    broker.delete("jobs", ident)
    assert "was lost" in str(queue.complete(ident).error)
    assert "is not there" in str(queue.complete(ident).error)


def test_a_message_that_was_lost_and_won_again_is_settled(
    queue: SQLiteQueue, later: Callable[[float], None]
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    later(11)
    assert queue.dequeue(visibility_timeout=10).value[0] == ident
    assert queue.complete(ident).is_ok()


# ----------------------------------------------------------------------------------------- batches


def test_a_batch_with_one_bad_payload_stores_none(queue: SQLiteQueue) -> None:
    bad: list[Any] = ["\ud800", 5, None, b"x"]
    for each in bad:
        result = queue.enqueue_batch(["good", each, "good"])
        assert isinstance(result.error, EnqueueError)
        assert isinstance(result.error.__cause__, MessageError)
    assert queue.is_empty()
    assert queue.enqueue_batch([]).value == []
    assert queue.enqueue_batch(f"{n}" for n in range(3)).is_ok()
    for no_list in ("abc", 5, None):
        assert "payloads: expected" in str(queue.enqueue_batch(no_list).error)  # type: ignore[arg-type]


def test_a_batch_is_taken_in_one_transaction(database: str) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=0)
    given = queue.enqueue_batch([f"{n}" for n in range(10)]).value

    def take(talk: Talk) -> None:
        mine = SQLiteQueue(database, "jobs", vacuum_threshold=0)
        while found := mine.dequeue_batch(3).value:
            talk.send([ident for ident, _ in found])
        talk.send(None)

    takers = [Child(take) for _ in range(2)]
    batches = [batch for taker in takers for batch in iter(taker.hear, None)]
    assert sorted(ident for batch in batches for ident in batch) == given
    for batch in batches:
        assert batch == given[given.index(batch[0]) :][: len(batch)], "neighbours, in one piece"


def test_a_batch_is_no_longer_than_asked_and_empty_where_nothing_is_pending(
    queue: SQLiteQueue,
) -> None:
    queue.enqueue_batch(["a", "b", "c"])
    assert [payload for _, payload in queue.dequeue_batch(2)] == ["a", "b"]
    assert [payload for _, payload in queue.dequeue_batch(2)] == ["c"]
    assert queue.dequeue_batch(2).value == []
    for wrong in (0, -1, "2", True, 10**9):
        assert "batch_size: expected" in str(queue.dequeue_batch(wrong).error)  # type: ignore[arg-type]


def test_a_message_that_was_dequeued_before_comes_alone(queue: SQLiteQueue) -> None:
    a, b, c = queue.enqueue_batch(["a", "b", "c"]).value
    queue.fail_message(b)
    taken = [[ident for ident, _ in queue.dequeue_batch(9)] for _ in range(3)]
    assert taken == [[a], [b], [c]]


# ------------------------------------------------------------------------------------- maintenance


def read_some(broker: Broker) -> None:
    """Leave a read message for a vacuum to drop."""
    broker.write("jobs", "read")
    broker.read("jobs")
    assert broker.stats("jobs").claimed == 1


def test_maintenance_runs_by_itself_at_the_threshold(database: str, broker: Broker) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=5)
    read_some(broker)
    for _ in range(4):
        queue.enqueue("x")
    assert queue.dequeue_batch(0).is_err()
    assert broker.stats("jobs").claimed == 1, "a failure does not count"
    queue.enqueue("x")
    assert broker.stats("jobs").claimed == 0
    read_some(broker)
    for _ in range(5):
        queue.is_empty()
    assert broker.stats("jobs").claimed == 0, "and again"


def test_maintenance_never_runs_by_itself_where_the_threshold_is_zero(
    database: str, broker: Broker
) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=0)
    read_some(broker)
    for _ in range(120):
        queue.is_empty()
    assert broker.stats("jobs").claimed == 1


@pytest.mark.parametrize("maintain", ["vacuum_database", "perform_checkpoint", "construction"])
def test_maintenance_on_demand_copies_the_log_and_shrinks_the_file(
    database: str, maintain: str
) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=0)
    queue.enqueue_batch(["x" * 10_000] * 100)
    queue.perform_checkpoint()
    full = os.path.getsize(database)
    assert full > 1_000_000
    for ident, _ in queue.dequeue_batch(100):
        queue.complete(ident)
    if maintain == "construction":
        SQLiteQueue(database, "other", vacuum_on_start=True)
    else:
        assert getattr(queue, maintain)().is_ok()
    assert os.path.getsize(database) < full / 4


def test_maintenance_that_fails_does_not_undo_the_operation_before_it(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: SqliteStore, *, compact: bool = False) -> int:
        raise StoreBusy(f"{database}: stayed locked; try again")

    monkeypatch.setattr(SqliteStore, "vacuum", refuse)
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=1)
    assert queue.enqueue("x").is_ok()
    assert "maintenance failed: queue=jobs" in caplog.text
    assert queue.vacuum_database().is_err()


# ----------------------------------------------------------------------------------------- numbers


def test_operations_are_counted_and_failures_apart(queue: SQLiteQueue) -> None:
    assert queue.get_operation_count() == 0
    queue.enqueue_batch(["a", "b", "c", "d"])
    first, _ = queue.dequeue()
    queue.dequeue()
    queue.complete(first)
    queue.complete(first)
    queue.fail_message(queue.peek().value[0], send_to_dlq=True)
    assert queue.get_operation_count() == 6
    metrics = queue.get_metrics().value
    assert metrics.operations == {
        "enqueue_batch": 1,
        "dequeue": 2,
        "complete": 1,
        "peek": 1,
        "fail_message": 1,
    }
    assert metrics.failures == {"complete": 1}
    assert (metrics.pending, metrics.processing, metrics.dead) == (1, 1, 1)
    assert queue.get_operation_count() == 7


def test_no_operation_of_several_threads_goes_uncounted(database: str) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=0)

    def fail_often() -> None:
        for _ in range(500):
            queue.dequeue_batch(0)
            queue._record.done("x")

    threads = [threading.Thread(target=fail_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert queue.get_operation_count() == 2000
    assert queue.get_metrics().value.failures == {"dequeue_batch": 2000}


# ----------------------------------------------------------------------------- errors and their log


def test_each_operation_is_logged_with_its_queue_and_message(
    queue: SQLiteQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "brokerrun")
    ident = queue.enqueue("a secret").value
    queue.dequeue()
    queue.complete(ident)
    queue.dequeue()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", f"enqueue: queue=jobs id={ident}"),
        ("DEBUG", f"dequeue: queue=jobs id={ident}"),
        ("DEBUG", f"complete: queue=jobs id={ident}"),
        ("DEBUG", "dequeue: queue=jobs is empty"),
    ]
    assert "secret" not in caplog.text


def test_a_failure_is_logged_with_its_traceback(
    queue: SQLiteQueue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.enqueue("a secret \ud800")
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("enqueue failed: queue=jobs id=None: invalid message")
    assert record.exc_info is not None
    assert record.exc_info[0] is MessageError
    assert "Traceback" in caplog.text
    assert "secret" not in caplog.text
    queue.complete(12)
    assert "complete failed: queue=jobs id=12: message 12 is not there" in caplog.text


LOUD = """\
import sys
from brokerrun.sqqueue import SQLiteQueue
queue = SQLiteQueue("q.db")
queue.complete(queue.enqueue("x"))
queue.enqueue(5)
"""


def test_nothing_is_printed_unless_the_program_sets_logging_up(tmp_path: Path) -> None:
    silent = run(LOUD, tmp_path)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    loud = run("import logging; logging.basicConfig(level='DEBUG')\n" + LOUD, tmp_path)
    assert loud.stdout == ""
    assert "DEBUG:brokerrun:enqueue: queue=message_queue id=" in loud.stderr
    assert "ERROR:brokerrun:complete failed: queue=message_queue id=" in loud.stderr
    assert loud.stderr.count("Traceback") == 2


def test_a_lock_is_waited_for_and_then_an_error_result(database: str) -> None:
    SQLiteQueue(database, "jobs").enqueue("x")

    def hold(talk: Talk) -> None:
        with SqliteStore(database).connection.writing():
            talk.send("holds it")
            talk.recv()
        talk.recv()

    child = Child(hold)
    child.hear()
    queue = SQLiteQueue(database, "jobs", config={"BROKER_BUSY_TIMEOUT": 100})
    for result, kind in (
        (queue.enqueue("y"), EnqueueError),
        (queue.dequeue(), DequeueError),
        (queue.fail_message(5), RequeueError),
    ):
        assert isinstance(result.error, kind)
        assert isinstance(result.error.__cause__, StoreBusy)
    patient = SQLiteQueue(database, "jobs")
    found: list[Result[Any, Any]] = []
    waiter = threading.Thread(target=lambda: found.append(patient.dequeue()))
    waiter.start()
    child.say("let go")
    waiter.join(20)
    assert found[0].value[1] == "x"


def test_what_is_missing_is_named_and_the_file_is_its_owners(
    queue: SQLiteQueue, database: str
) -> None:
    said = brokerrun.sqqueue.__doc__ or ""
    assert "encryption\nand authentication" in said
    assert "`brokerrun.aio`" in said
    assert "statsd" in said
    queue.enqueue("x")
    assert stat.S_IMODE(os.stat(database).st_mode) == 0o600


# ------------------------------------------------------------------------------------- the shutdown


def test_close_gives_back_what_is_in_hand_unburned(database: str, broker: Broker) -> None:
    with SQLiteQueue(database, "jobs") as queue:
        a, b, c, d = queue.enqueue_batch(["a", "b", "c", "d"]).value
        queue.dequeue_batch(4)
        queue.complete(a)
        queue.fail_message(b, send_to_dlq=True)
    assert [(m.id, m.state, m.attempts) for m in broker.peek("jobs", Selection(limit=None))] == [
        (c, State.READY, 0),
        (d, State.READY, 0),
    ]
    assert queue.dequeue_batch(9).value == [(c, "c"), (d, "d")], "it opens again"
    queue.close()


def test_close_takes_nothing_that_another_holds(
    database: str, other: SQLiteQueue, later: Callable[[float], None]
) -> None:
    queue = SQLiteQueue(database, "jobs")
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    later(11)
    assert other.dequeue().value[0] == ident
    queue.close()
    assert other.is_empty()
    assert other.complete(ident).is_ok()


def test_close_that_cannot_give_back_closes_all_the_same(
    database: str, caplog: pytest.LogCaptureFixture, later: Callable[[float], None]
) -> None:
    queue = SQLiteQueue(database, "jobs", config={"BROKER_BUSY_TIMEOUT": 100})
    ident = queue.enqueue("x").value
    queue.dequeue()

    def hold(talk: Talk) -> None:
        with SqliteStore(database).connection.writing():
            talk.send("holds it")
            talk.recv()

    child = Child(hold)
    child.hear()
    queue.close()
    assert f"close failed: queue=jobs id=[{ident}]" in caplog.text
    child.say("let go")
    child.ends_well()
    later(61)
    with SQLiteQueue(database, "jobs") as again:
        assert again.dequeue().value[0] == ident


def test_nothing_is_left_beside_the_database(tmp_path: Path) -> None:
    with SQLiteQueue(tmp_path / "q.db") as queue:
        queue.enqueue("x")
        queue.dequeue()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.db", "q.db.lock"]


# ------------------------------------------------------------------------------- several processes


def test_two_processes_share_the_work_and_none_is_done_twice(database: str) -> None:
    def work(talk: Talk) -> None:
        with SQLiteQueue(database, "jobs", vacuum_threshold=20) as mine:
            talk.recv()
            while taken := mine.dequeue():
                ident, payload = taken
                assert mine.complete(ident).is_ok()
                talk.send((ident, payload))
        talk.send(None)

    with SQLiteQueue(database, "jobs") as queue:
        given = queue.enqueue_batch([f"{n}" for n in range(120)]).value
        workers = [Child(work) for _ in range(2)]
        for worker in workers:
            worker.say("go")
        done = [item for worker in workers for item in iter(worker.hear, None)]
        assert sorted(done) == [(ident, f"{n}") for n, ident in enumerate(given)]
        assert queue.is_empty()
    for worker in workers:
        worker.ends_well()


SETTLERS = ["complete", "fail_message", "requeue"]


@pytest.mark.parametrize("settle", SETTLERS)
def test_another_process_settles_by_the_id_alone_what_is_being_processed(
    database: str, queue: SQLiteQueue, settle: str
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    done = run(
        "import sys\n"
        "from brokerrun.sqqueue import SQLiteQueue\n"
        f"done = SQLiteQueue({database!r}, 'jobs').{settle}({ident})\n"
        "sys.exit(str(done.error or 0))",
        Path(database).parent,
    )
    assert done.stderr == "0\n"
    assert f"message {ident} was lost" in str(getattr(queue, settle)(ident).error)
    assert queue.dequeue_batch(2).value == ([] if settle == "complete" else [(ident, "x")])


def test_another_object_buries_and_prolongs_by_the_id_alone(
    queue: SQLiteQueue, other: SQLiteQueue, later: Callable[[float], None]
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    assert other.extend(ident, 60).is_ok()
    later(11)
    assert other.dequeue().is_err()
    assert other.fail_message(ident, send_to_dlq=True).is_ok()
    assert dead(queue) == [ident]


def test_the_late_answer_of_the_first_touches_nothing_of_the_next(
    queue: SQLiteQueue, other: SQLiteQueue, broker: Broker
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    assert other.requeue(ident).is_ok()
    assert other.dequeue().is_ok()
    before = broker.peek("jobs")
    for late in SETTLERS:
        assert f"message {ident} was lost" in str(getattr(queue, late)(ident).error)
    assert broker.peek("jobs") == before
    assert other.complete(ident).is_ok()


def test_the_late_answer_of_one_that_was_closed_touches_nothing_of_the_next(
    queue: SQLiteQueue, other: SQLiteQueue
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    queue.close()
    assert other.dequeue().is_ok()
    assert f"message {ident} was lost" in str(queue.complete(ident).error)
    done = queue.get_operation_count()
    queue.close()
    assert queue.get_operation_count() == done, "nothing is left to give back"
    assert other.complete(ident).is_ok()


def test_a_message_of_another_queue_is_not_settled(
    database: str, queue: SQLiteQueue, broker: Broker
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    before = broker.peek("jobs")
    stranger = SQLiteQueue(database, "strangers")
    for settle in SETTLERS:
        assert "is not there" in str(getattr(stranger, settle)(ident).error)
    assert broker.peek("jobs") == before


@pytest.mark.parametrize("settle", SETTLERS)
def test_what_is_in_the_hands_of_a_claim_of_another_kind_is_settled_by_its_id(
    queue: SQLiteQueue, broker: Broker, settle: str
) -> None:
    ident = queue.enqueue("x").value
    [claim] = claim_for(broker, "jobs", hold="jobs.in-process")[0]
    assert getattr(queue, settle)(ident).is_ok()
    assert acknowledge(broker, [receipt_text(claim)]) == [False]


@pytest.mark.parametrize("settle", ["complete", "requeue"])
def test_of_two_processes_that_settle_at_once_exactly_one_does(
    database: str, queue: SQLiteQueue, settle: str
) -> None:
    given = queue.enqueue_batch([f"{n}" for n in range(100)]).value
    queue.dequeue_batch(100)

    def race(talk: Talk) -> None:
        mine = SQLiteQueue(database, "jobs", vacuum_threshold=0)
        talk.send("ready")
        talk.recv()
        talk.send([ident for ident in given if getattr(mine, settle)(ident).is_ok()])

    racers = [Child(race) for _ in range(2)]
    for racer in racers:
        racer.hear()
    for racer in racers:
        racer.say("go")
    settled = [ident for racer in racers for ident in racer.hear()]
    assert sorted(settled) == given
    for racer in racers:
        racer.ends_well()


def test_of_two_objects_that_found_the_same_claim_exactly_one_ends_it(
    queue: SQLiteQueue, other: SQLiteQueue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    both = threading.Barrier(2)
    find = SqliteStore.holding

    def find_together(store: SqliteStore, *which: Any) -> Any:
        found = find(store, *which)
        both.wait(20)
        return found

    monkeypatch.setattr(SqliteStore, "holding", find_together)
    done: list[Result[None, CompletionError]] = []
    third = SQLiteQueue(database, "jobs")
    threads = [
        threading.Thread(target=lambda each=each: done.append(each.complete(ident)))
        for each in (other, third)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(result.is_ok() for result in done) == [False, True]


def test_what_a_killed_process_held_is_back_after_the_time_out(
    database: str, queue: SQLiteQueue, broker: Broker, later: Callable[[float], None]
) -> None:
    given = queue.enqueue_batch(["a", "b"]).value

    def hang(talk: Talk) -> None:
        mine = SQLiteQueue(database, "jobs", default_visibility_timeout=30)
        talk.send(mine.dequeue_batch(2).value)
        talk.recv()

    child = Child(hang)
    assert [ident for ident, _ in child.hear()] == given
    child.kill()
    assert queue.recover_processing_messages() == 0
    assert queue.dequeue().is_err(), "the time-out runs"
    later(31)
    assert queue.recover_processing_messages() == 2
    assert [attempts(broker, ident) for ident in given] == [1, 1]
    assert queue.dequeue().value == (given[0], "a")


def test_a_short_time_out_passes_by_the_real_clock(database: str, queue: SQLiteQueue) -> None:
    ident = queue.enqueue("x").value
    assert queue.dequeue(visibility_timeout=0.05).is_ok()
    assert eventually(queue.dequeue).value == (ident, "x")


# ------------------------------------------------------------------------------------------- forks


def test_a_forked_child_gives_back_nothing_of_its_parents(
    queue: SQLiteQueue, broker: Broker
) -> None:
    ident = queue.enqueue("parent's").value
    queue.dequeue()
    second = queue.enqueue("child's").value

    def leave(talk: Talk) -> None:
        with queue:
            assert queue.dequeue().value == (second, "child's")
        queue.close()

    Child(leave).ends_well()
    states = {message.id: message.state for message in broker.peek("jobs", Selection(limit=None))}
    assert states == {ident: State.LEASED, second: State.READY}
    assert queue.complete(ident).is_ok()
    assert queue.dequeue().value == (second, "child's")


def test_a_forked_child_may_settle_by_hand_what_its_parent_dequeued(queue: SQLiteQueue) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()

    def settle(talk: Talk) -> None:
        assert queue.complete(ident).is_ok()

    Child(settle).ends_well()
    assert "was lost" in str(queue.complete(ident).error)
    assert queue.is_empty()


def test_forks_in_the_middle_of_the_work_of_threads_hang_nobody(database: str) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=10)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            queue.enqueue("x")
            ident, _ = queue.dequeue()
            queue.complete(ident)

    def use(talk: Talk) -> None:
        queue.get_operation_count()
        queue.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            Child(use).ends_well()
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert queue.is_empty()


def test_a_fork_waits_for_the_thread_that_changes_what_is_known(queue: SQLiteQueue) -> None:
    inside, done = threading.Event(), threading.Event()

    def change() -> None:
        with record._LOCK:
            inside.set()
            done.wait(0.2)

    thread = threading.Thread(target=change)
    thread.start()
    assert inside.wait(20)
    Child(lambda talk: queue.get_operation_count()).ends_well(within=5)
    thread.join(20)


# ----------------------------------------------------------------------------------------- threads


def test_threads_share_one_object_and_no_message_is_done_twice(database: str) -> None:
    queue = SQLiteQueue(database, "jobs", vacuum_threshold=25)
    given = queue.enqueue_batch([f"{n}" for n in range(100)]).value
    done: list[int] = []

    def work() -> None:
        while taken := queue.dequeue():
            ident, _ = taken
            if queue.complete(ident).is_ok():
                done.append(ident)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == given
    assert queue.get_metrics().value.failures == {}
    assert queue.is_empty()


def test_a_message_is_handed_from_thread_to_thread(queue: SQLiteQueue) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue()
    assert in_thread(lambda: queue.complete(ident)).is_ok()
    assert queue.complete(ident).is_err()


@pytest.mark.parametrize("settle", ["complete", "fail_message", "requeue"])
def test_a_thread_that_lost_a_message_does_not_settle_it_for_the_one_that_has_it(
    queue: SQLiteQueue, later: Callable[[float], None], settle: str
) -> None:
    ident = queue.enqueue("x").value
    queue.dequeue(visibility_timeout=10)
    later(11)
    won, late, settled = threading.Event(), threading.Event(), []

    def take_over() -> None:
        settled.append(queue.dequeue().is_ok())
        won.set()
        settled.append(late.wait(20))
        settled.append(queue.complete(ident).is_ok())

    thread = threading.Thread(target=take_over)
    thread.start()
    assert won.wait(20)
    assert f"message {ident} was lost" in str(getattr(queue, settle)(ident).error)
    late.set()
    thread.join(20)
    assert settled == [True, True, True]
