"""What a user's type checker says about the library: every public name, each form, wrong uses."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import brokerrun

USES = """\
import sqlite3
import threading
from pathlib import Path

import brokerrun as b
from brokerrun.db import DBConnection

queue = b.Queue("q", Path("my.db"), persistent=True, config={"BROKER_CACHE_MB": 5})
target: b.BrokerTarget = b.target_for_directory(".", config={})
other = b.Queue("r", target)
flag = bool(other.exists())
settings = b.resolve_config({"BROKER_BUSY_TIMEOUT": 100})

def handle(message: str, ident: int) -> None:
    print(message.upper(), ident + 1)

def on_error(error: Exception, message: str, ident: int) -> bool | None:
    return isinstance(error, b.MessageError) and None

def moved_to(queue: b.Queue) -> str | None:
    moved = queue.move(other)
    return None if moved is None else moved["message"] * moved["timestamp"]

def ends(job: b.Job) -> None:
    if job.attempt == job.max_attempts:
        raise b.Dead("no use")
    if job.stopping:
        raise b.Snooze(0)
    if job.last_error is None:
        raise b.Retry(30.0, "again")
    raise b.Drop(job.body)

def work(policy: b.RetryPolicy) -> None:
    with queue.claim(10, lease=60.0, hold="q.in-process", retry=policy) as leases:
        held: b.Leases = leases
        for lease in held:
            one: b.Lease = lease
            if not one.ack():
                lease.nack(ValueError("bad"), delay=5)
                lease.dead("no use")
                lease.release(1.5)
                lease.extend(60)

def within(connection: sqlite3.Connection) -> int:
    for lease in queue.claim():
        lease.ack(within=connection)
    return queue.enqueue("x", within=connection, delay=5, priority=-1)

def watch(stop: threading.Event) -> None:
    with b.QueueWatcher("q", handle, db="my.db", peek=True, error_handler=on_error):
        stop.wait()
    b.QueueWatcher(queue, b.json_print_handler, after_timestamp="2026-01-01").run_forever()
    b.QueueWatcher("my.db", "q", b.simple_print_handler, stop_event=stop).watch()
    b.QueueWatcher("q", lambda message, ident: handle(message, ident)).stop(join=False, timeout=1)
    b.QueueMoveWatcher(queue, "r", b.logger_handler, max_messages=5).run_in_thread().join()
    several = b.MultiQueueWatcher(["q"], handle, queue_handlers={"q": handle}, priority=True)
    several.add_queue("r", handle, on_error)
    waiter: b.ActivityWaiter | None = b.create_activity_waiter_for_queues([queue, other])
    if waiter is not None and waiter.wait(1.0):
        waiter.close()

def across(place: Path) -> int:
    with b.open_broker(place) as handle, DBConnection(place) as connection:
        same: b.Handle = connection.get_connection()
        stats: list[b.QueueStats] = handle.list_queue_stats(prefix="q")
        return same.broadcast("x", pattern="q*") + sum(each.pending for each in stats)

def inside(place: str) -> list[b.Message]:
    with b.Broker(place) as broker:
        return broker.peek("q")

def fails() -> None:
    try:
        queue.write("x", delay=2.5, priority=1)
    except (b.StoreBusy, b.StoreFull) as error:
        again: b.StoreError = error
        print(again)
    except (b.StoreGone, b.StoreMissing, b.StoreRefused, b.ForkUnsafe, b.StoreError) as gone:
        print(gone)
    except (b.QueueNameError, b.MessageError, b.TimestampError, b.AliasError) as wrong:
        raise SystemExit(str(wrong)) from wrong
    except (b.ArgumentError, b.UsageError) as wrong:
        ours: b.BrokerrunError = wrong
        print(ours)

work(b.RetryPolicy(max_attempts=2, backoff=b.Backoff(least=1.0, most=60.0)))
"""

MOVED = "Iterator[TypedDict({'message': str, 'timestamp': int})]"
MOVED_OR_ALL = MOVED[len("Iterator[") : -1] + " | " + MOVED + " | None"
REVEALED = {
    "queue.write('x')": "int",
    "queue.write_many(['x'])": "list[int]",
    "queue.read()": "str | None",
    "queue.read(message_id=5)": "str | None",
    "queue.read(with_timestamps=True)": "tuple[str, int] | None",
    "queue.read(all_messages=True)": "Iterator[str]",
    "queue.read(all_messages=True, with_timestamps=True)": "Iterator[tuple[str, int]]",
    "queue.read_one(exact_timestamp='5')": "str | None",
    "queue.read_one(with_timestamps=True)": "tuple[str, int] | None",
    "queue.read_many(5, delivery_guarantee='at_least_once')": "list[str]",
    "queue.read_many(5, with_timestamps=True)": "list[tuple[str, int]]",
    "queue.read_generator(after_timestamp=5)": "Generator[str, None, None]",
    "queue.read_generator(with_timestamps=True)": "Generator[tuple[str, int], None, None]",
    "queue.peek(before_timestamp='2026-01-01')": "str | None",
    "queue.peek(with_timestamps=True)": "tuple[str, int] | None",
    "queue.peek(all_messages=True)": "Iterator[str]",
    "queue.peek(all_messages=True, with_timestamps=True)": "Iterator[tuple[str, int]]",
    "queue.peek_one()": "str | None",
    "queue.peek_one(with_timestamps=True)": "tuple[str, int] | None",
    "queue.peek_many()": "list[str]",
    "queue.peek_many(5, with_timestamps=True)": "list[tuple[str, int]]",
    "queue.peek_generator()": "Generator[str, None, None]",
    "queue.peek_generator(with_timestamps=True)": "Generator[tuple[str, int], None, None]",
    "queue.move(other, all_messages=True)": MOVED,
    "queue.move_one('r', require_unclaimed=False)": "str | None",
    "queue.move_one('r', with_timestamps=True)": "tuple[str, int] | None",
    "queue.move_many('r', 5)": "list[str]",
    "queue.move_many(other, 5, with_timestamps=True)": "list[tuple[str, int]]",
    "queue.move_generator('r')": "Generator[str, None, None]",
    "queue.move_generator('r', with_timestamps=True)": "Generator[tuple[str, int], None, None]",
    # As a variable says.
    "queue.read(with_timestamps=flag)": "str | tuple[str, int] | None",
    "queue.read(with_timestamps=flag, message_id=5)": "str | tuple[str, int] | None",
    "queue.read(all_messages=flag)": (
        "str | tuple[str, int] | Iterator[str] | Iterator[tuple[str, int]] | None"
    ),
    "queue.read_many(5, with_timestamps=flag)": "list[str] | list[tuple[str, int]]",
    "queue.read_generator(with_timestamps=flag)": "Generator[str | tuple[str, int], None, None]",
    "queue.peek_one(with_timestamps=flag)": "str | tuple[str, int] | None",
    "queue.move(other, all_messages=flag)": MOVED_OR_ALL,
    "queue.move_one('r', with_timestamps=flag)": "str | tuple[str, int] | None",
    "queue.stream_messages(peek=True, commit_interval=5)": "Generator[tuple[str, int], None, None]",
    "queue.delete(message_id=5)": "bool",
    "queue.exists()": "bool",
    "queue.has_pending(5)": "bool",
    "queue.stats().pending": "int",
    "queue.last_ts": "int",
    "queue.get_ts()": "int",
    "next(queue.claim()).body": "str",
    "next(queue.claim()).ack()": "bool",
    "b.QueueWatcher('q', handle).run_in_thread()": "Thread",
    "b.QueueWatcher('q', handle).error": "BaseException | None",
    "b.MultiQueueWatcher(['q'], handle).metrics()['q'].failed": "int",
    "b.open_broker().queue('q').read()": "str | None",
    "b.open_broker().list_queues()": "list[tuple[str, int]]",
    "b.Broker('my.db').write('q', 'x')": "int",
    "b.Broker('my.db').peek('q')[0].body": "str",
}

REFUSED = [
    "b.no_such_name",
    "queue.write(b'x')",
    "queue.write('x', delay='5s')",
    "queue.read().upper()",
    "queue.read(with_timestamps='yes')",
    "queue.read(all_messages=True, message_id=5)",
    "queue.read_many()",
    "queue.read_generator(delivery_guarantee='sometimes')",
    "queue.move(5)",
    "queue.enqueue('x')",
    "queue.claim(lease='60s')",
    "next(queue.claim()).nack(5)",
    "queue.no_such_method()",
    "queue.last_ts = 5",
    "b.Queue('q', persistent='yes')",
    "b.QueueWatcher('q', handle, on_eror=on_error)",
    "b.QueueWatcher('q', handle, error_handler=handle)",
    "b.QueueWatcher('my.db', 'q', handle, db='my.db')",
    "b.QueueWatcher('q', lambda message: None)",
    "b.RetryPolicy(max_attempts=2).max_attempts = 5",
]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Check a user's module as a user does; return what was said, by line."""
    folder = tmp_path_factory.mktemp("user")
    reveals = [f"reveal_type({expression})" for expression in REVEALED]
    (folder / "user.py").write_text(USES + "\n".join([*reveals, *REFUSED]) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=110)
    assert done.stderr == ""
    said: dict[int, str] = {}
    for line in done.stdout.splitlines():
        number, text = line.removeprefix("user.py:").split(":", 1)
        said.setdefault(int(number), text.strip())
    return said


def lines_from(start: int, expressions: list[str]) -> dict[str, int]:
    return dict(zip(expressions, range(start, start + len(expressions)), strict=True))


FIRST = USES.count("\n") + 1
REVEALED_AT = lines_from(FIRST, list(REVEALED))
REFUSED_AT = lines_from(FIRST + len(REVEALED), REFUSED)


def test_the_module_uses_every_public_name() -> None:
    used = set(re.findall(r"\bb\.(\w+)", USES))
    assert set(brokerrun.__all__) - {"__version__"} <= used


def test_right_uses_are_clean(checked: dict[int, str]) -> None:
    assert {line: text for line, text in checked.items() if line < FIRST} == {}


@pytest.mark.parametrize("expression", REVEALED)
def test_a_form_has_its_type(expression: str, checked: dict[int, str]) -> None:
    said = checked[REVEALED_AT[expression]]
    shown = re.sub(r"\b(?:[a-z_]\w*\.)+|\?", "", said.removeprefix("note: Revealed type is "))
    shown = re.sub(r"Union\[(.*), None\]", r"\1 | None", shown.strip('"'))
    assert shown.replace("TypedDict(Moved, ", "TypedDict(") == REVEALED[expression]


@pytest.mark.parametrize("expression", REFUSED)
def test_a_wrong_use_is_refused(expression: str, checked: dict[int, str]) -> None:
    assert checked.get(REFUSED_AT[expression], "").startswith("error: ")
