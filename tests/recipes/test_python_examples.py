"""The programs of `examples/python` that show, watch and read: each keeps what it promises."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import stuck
from recipes.place import Place, ends, kill_group
from recipes.programs import (
    ENDING,
    PROGRAMS,
    call,
    killed_after,
    lines,
    numbered,
    programs,
    rest,
    run,
)
from support import eventually, sleeps

from brokerrun import Queue

# ------------------------------------------------------------------------------------- all of them


def test_the_readme_lists_each_program_once() -> None:
    listed = re.findall(r"^\| `(\w+\.py)", (PROGRAMS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == programs()


@pytest.mark.parametrize(
    "program", [each for each in programs() if each not in ("api_tour.py", "fake_runner.py")]
)
def test_a_program_called_without_arguments_says_how_to_call_it(place: Place, program: str) -> None:
    done = subprocess.run(call(program), cwd=place.path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"python examples/python/{program} " in done.stderr
    assert "Under kill: " in done.stderr


# ---------------------------------------------------------------------------------------- api_tour

TOUR = """\
--- write_and_read
peek: first
read: first
two: ['second', 'third']
the rest: ['fourth', 'fifth']
nothing left: None
--- ids
ids rise: True
by id: old
later: ['new']
with its id: True
deleted: True False
--- order
ready: ['urgent', 'normal']
waits for its time: 1 of 1 True
--- move
moved: old
by content: ['error 1', 'error 2']
by time: ['fine']
left: ['young']
--- hold
dead: hopeless
still there: ['bad', 'unseen']
--- hold_batches
in hand: 1
all back: ['1', '2', '3']
--- whole_store
told: 3
tour.dlq: 2 pending
tour.errors: 3 pending
tour.moved: 3 pending
one: here
--- refusals
"""


def test_the_tour_gives_what_it_names_each_time_and_leaves_other_queues_alone(
    place: Place,
) -> None:
    place.write("tourists", "stay")
    for _ in range(2):
        said = place.run(*call("api_tour.py"))
        tour, refusals = said[: len(TOUR)], said[len(TOUR) :].splitlines()
        assert tour == TOUR
        assert [line.split("'")[0].split(":")[0] for line in refusals] == [
            "invalid queue name ",
            "message of 8 bytes",
        ]
    assert place.bodies("tourists") == ["stay"]


# -------------------------------------------------------------------------------- default_handlers


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("print", ["[{0}] urgent ✓"]),
        ("json", ['{{"message": "urgent ✓", "timestamp": {0}}}']),
        ("log", ["INFO brokerrun: Message {0}: urgent ✓"]),
        ("own", ["[{0}] urgent ✓", "INFO brokerrun: Message {0}: urgent ✓"]),
    ],
)
def test_a_ready_made_handler_says_each_message(place: Place, kind: str, wanted: list[str]) -> None:
    place.write("mine", "urgent ✓")
    [ident] = place.ids("mine")
    watcher = place.start(*call("default_handlers.py", kind, "mine"))
    assert lines(watcher, len(wanted)) == [line.format(ident) for line in wanted]
    watcher.terminate()
    assert rest(watcher) == []
    assert place.bodies("mine") == []


def test_a_handler_that_raises_is_answered_by_the_error_handler_and_the_watcher_goes_on(
    place: Place,
) -> None:
    place.write("events", "", "next")
    bad, good = place.ids("events")
    watcher = place.start(*call("default_handlers.py", "own"))
    assert lines(watcher, 2) == [f"not handled: {bad}: an empty message", f"[{good}] next"]
    watcher.send_signal(signal.SIGINT)
    assert rest(watcher) == []


# ------------------------------------------------------------------------------- checkpoint_reader


def test_a_restarted_reader_goes_on_behind_its_checkpoint_and_takes_nothing(place: Place) -> None:
    assert run(place, "checkpoint_reader.py", "log", "mine", "0.1") == []
    for bodies in (["a", "b"], ["c"], []):
        place.write("log", *bodies)
        assert run(place, "checkpoint_reader.py", "log", "mine", "0.1") == bodies
    assert run(place, "checkpoint_reader.py", "log", "other", "0.1") == ["a", "b", "c"]
    assert place.bodies("log") == ["a", "b", "c"]


@pytest.mark.parametrize("number", ENDING)
def test_a_reader_told_to_end_repeats_nothing(place: Place, number: int) -> None:
    bodies = numbered(300)
    place.write("log", *bodies)
    reader = place.start(*call("checkpoint_reader.py", "log", "mine"))
    first = lines(reader, 20)
    reader.send_signal(number)
    first += rest(reader)
    assert 20 <= len(first) < 300
    assert first + run(place, "checkpoint_reader.py", "log", "mine", "0.1") == bodies


def test_a_reader_hears_of_what_is_written_while_it_waits(place: Place) -> None:
    reader = place.start(*call("checkpoint_reader.py", "log", "mine"))
    for body in "abcdef":
        eventually(lambda: sleeps(reader.pid), within=20)
        place.write("log", body)
        assert lines(reader, 1) == [body]
    reader.terminate()
    assert rest(reader) == []


@contextmanager
def being_written(place: Place) -> Iterator[None]:
    """Let several threads write to the queue `log` for the length of the block."""
    over = threading.Event()

    def write(writer: int) -> None:
        queue, number = Queue("log", place.path / ".broker.db"), 0
        while not over.wait(0.005):
            queue.write(f"{writer}-{number}")
            number += 1

    threads = [threading.Thread(target=write, args=[writer]) for writer in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def test_killed_again_and_again_a_reader_misses_nothing_and_repeats_only_what_was_in_hand(
    place: Place,
) -> None:
    printed = []
    with being_written(place):
        for count in (5, 17, 30, 41):
            reader = place.start(*call("checkpoint_reader.py", "log", "mine"))
            printed.append(killed_after(reader, count))
    printed.append(run(place, "checkpoint_reader.py", "log", "mine", "0.1"))
    bodies = place.bodies("log")
    following = 0  # the place of the next body that was not printed yet
    for part in filter(None, printed):  # the last one may have found nothing new
        first = bodies.index(part[0])
        assert first in (following - 1, following)
        assert part == bodies[first : first + len(part)]
        following = first + len(part)
    assert following == len(bodies)


def test_a_message_whose_work_was_cut_off_comes_again(place: Place) -> None:
    place.write("log", "small", "more than a pipe holds " * 10_000)
    reader = place.start(*call("checkpoint_reader.py", "log", "mine"))
    eventually(lambda: stuck(reader.pid), within=20)
    kill_group(reader)
    assert rest(reader, -signal.SIGKILL)[0] == "small"
    assert run(place, "checkpoint_reader.py", "log", "mine", "0.1") == place.bodies("log")[1:]


# ------------------------------------------------------------------------------------- multi_queue


def test_a_full_queue_keeps_no_other_waiting(place: Place) -> None:
    place.write("bulk", *numbered(300))
    place.write("rare", *numbered(5))
    watcher = place.start(*call("multi_queue.py", "bulk", "rare"))
    seen = lines(watcher, 10)
    place.write("control", "stop")
    seen += rest(watcher)
    assert seen[:10] == [f"{queue}: {body}" for body in numbered(5) for queue in ("bulk", "rare")]
    assert len(seen) - 10 + len(place.bodies("bulk")) == 295


def test_queues_come_and_go_while_one_thread_watches_them(place: Place) -> None:
    watcher = place.start(*call("multi_queue.py", "orders"))
    place.write("late", "early bird")
    place.write("control", "add late")
    assert lines(watcher, 1) == ["late: early bird"]
    assert "\nThreads:\t1\n" in Path(f"/proc/{watcher.pid}/status").read_text()
    place.write("control", "remove late", "add orders", "jump")
    assert lines(watcher, 2) == [
        "failed: queue 'orders' is watched already: remove it first",
        "failed: 'jump': expected add NAME, remove NAME, metrics or stop",
    ]
    place.write("late", "worm")
    place.write("orders", "1")
    assert lines(watcher, 1) == ["orders: 1"]
    watcher.terminate()
    assert rest(watcher) == []
    assert place.bodies("late") == ["worm"]


def test_each_queue_has_its_own_handlers_and_its_own_counts(place: Place) -> None:
    place.write("mail", "a@b", "nobody", "c@d")
    place.write("orders", "1")
    watcher = place.start(*call("multi_queue.py", "mail", "orders"))
    assert sorted(lines(watcher, 3)) == ["orders: 1", "sent: a@b", "sent: c@d"]
    place.write("control", "metrics", "stop")
    assert rest(watcher) == [
        "control: 0 handled, 0 failed",
        "mail: 2 handled, 1 failed",
        "orders: 1 handled, 0 failed",
    ]
    assert place.bodies("mail.refused") == ["nobody (no address)"]


# --------------------------------------------------------------------------------------- embedding


def project(database: str) -> str:
    return f'version = 1\nbackend = "sqlite"\ntarget = "{database}"\n'


def test_a_client_stays_with_its_store_wherever_it_is_called_from(place: Place) -> None:
    root, other = place.path / "app", place.path / "other"
    for folder in (root, other, place.path / ".myapp"):
        folder.mkdir()
    (place.path / ".myapp" / "broker.toml").write_text(project("another.db"))
    place.env |= {
        "BROKER_DEFAULT_DB_NAME": "shell.db",
        "BROKER_DEFAULT_DB_LOCATION": str(other),
        "BROKER_PROJECT_SCOPE": "1",
        "BROKER_PROJECT_CONFIG_NAME": "shell.toml",
    }
    database = str(root.resolve() / ".myapp" / "queue.db")
    wanted = [database, "jobs: 2 pending"]
    assert run(place, "embedding.py", "app", "one", "two") == wanted
    assert run(place, "embedding.py", "../app", folder="other") == wanted
    assert Queue("jobs", database).peek_many() == ["one", "two"]
    assert list(other.iterdir()) == []


def test_a_project_file_of_the_application_says_where_the_store_is(place: Place) -> None:
    (place.path / ".myapp").mkdir()
    (place.path / ".myapp" / "broker.toml").write_text(project("moved.db"))
    [database, _] = run(place, "embedding.py", ".", "one")
    assert database == str(place.path.resolve() / ".myapp" / "moved.db")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"MYAPP_MOST_BYTES": "3"}, "MessageError: message of 4 bytes: at most 3"),
        ({"MYAPP_WAIT_MS": "soon"}, "UsageError: BROKER_BUSY_TIMEOUT: expected milliseconds"),
    ],
)
def test_settings_of_the_application_are_those_of_the_queue(
    place: Place, setting: dict[str, str], said: str
) -> None:
    place.env |= setting
    refused = place.start(*call("embedding.py", ".", "four"))
    assert said in ends(refused, status=1)
