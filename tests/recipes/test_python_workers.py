"""The programs of `examples/python` that share work out and do it: each keeps what it promises."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise

import pytest
from recipes.place import Place, kill_group
from recipes.programs import ENDING, call, killed_after, lines, numbered, rest, run
from support import eventually

# -------------------------------------------------------------------------------------- priorities


def test_both_kinds_of_priority_hand_out_what_is_urgent_first(place: Place) -> None:
    for rank in "2010":
        run(place, "priorities.py", "write", "jobs", rank, f"{rank}a", f"{rank}b")
    order = ["0a", "0b", "0a", "0b", "1a", "1b", "2a", "2b"]
    assert place.bodies("jobs.0") == order[:4]
    assert run(place, "priorities.py", "work", "jobs") == [
        f"{kind} {body}" for kind in ("ordered", "priority") for body in order
    ]


def test_what_is_urgent_overtakes_what_was_there_before_it(place: Place) -> None:
    run(place, "priorities.py", "write", "jobs", "1", *numbered(500))
    worker = place.start(*call("priorities.py", "work", "jobs"))
    lines(worker, 1)
    run(place, "priorities.py", "write", "jobs", "0", "urgent")
    said = rest(worker)
    assert said[-500:] == [f"priority {body}" for body in numbered(500)]
    assert said[-501] == "priority urgent"
    assert said[:-501].index("ordered urgent") < 498


# ---------------------------------------------------------------------------------- load_balancing


def test_messages_are_dealt_in_turn_with_their_ids(place: Place) -> None:
    place.write("all", *"abcde")
    ids = place.ids("all")
    run(place, "load_balancing.py", "turn", "all", "x", "y")
    assert (place.bodies("x"), place.bodies("y")) == (["a", "c", "e"], ["b", "d"])
    assert sorted(place.ids("x") + place.ids("y")) == ids


def test_the_shortest_queue_gets_the_next_message(place: Place) -> None:
    place.write("busy", "1", "2", "3")
    place.write("all", *"abcde")
    run(place, "load_balancing.py", "load", "all", "busy", "idle")
    assert place.bodies("busy")[3:] == ["d"]
    assert place.bodies("idle") == ["a", "b", "c", "e"]


def test_killed_while_it_deals_a_dealer_loses_and_doubles_nothing(place: Place) -> None:
    bodies = numbered(500)
    place.write("all", *bodies)
    dealer = place.start(*call("load_balancing.py", "turn", "all", "x", "y"))
    eventually(lambda: len(place.bodies("x")) > 20, within=20)
    kill_group(dealer)
    assert place.bodies("all")
    run(place, "load_balancing.py", "turn", "all", "x", "y")
    assert sorted(place.bodies("x") + place.bodies("y")) == bodies


def test_an_idle_worker_steals_from_the_longest_queue(place: Place) -> None:
    place.write("own", "mine")
    place.write("long", *"abc")
    place.write("short", *"x")
    stolen = run(place, "load_balancing.py", "steal", "own", "short", "long")
    assert stolen == ["mine", "a", "b", "x", "c"]


def test_workers_that_steal_from_each_other_handle_each_message_once(place: Place) -> None:
    bodies = numbered(300)
    place.write("x", *bodies)
    queues = ["x", "y", "z"]
    turns = [queues[turn:] + queues[:turn] for turn in range(3)]
    workers = [place.start(*call("load_balancing.py", "steal", *turn)) for turn in turns]
    handled = [line for worker in workers for line in rest(worker)]
    assert sorted(handled) == bodies


@pytest.mark.parametrize(
    "words",
    [["load_balancing.py", "steal", "idle", "jobs.1"], ["priorities.py", "work", "jobs"]],
    ids=lambda words: words[0],
)
def test_a_killed_worker_repeats_at_most_what_was_in_hand(place: Place, words: list[str]) -> None:
    bodies = numbered(200)
    place.write("jobs.1", *bodies)
    first = killed_after(place.start(*call(*words)), 30)
    assert len(first) < 200
    handled = Counter(line.split()[-1] for line in first + run(place, *words))
    assert sorted(handled) == bodies
    assert handled.total() - len(handled) <= 1


# ------------------------------------------------------------------------------------ lease_worker


def rows(place: Place, table: str) -> list[int]:
    """Return the numbers in a table of the program; none before it is made."""
    with closing(sqlite3.connect(place.path / ".broker.db", timeout=20)) as connection:
        found = connection.execute("select 1 from sqlite_master where name = ?", [table])
        if found.fetchone() is None:
            return []
        return [number for (number,) in connection.execute(f"select number from {table}")]


def shipped(place: Place, least: int) -> Callable[[], bool]:
    return lambda: len(rows(place, "shipments")) >= least


def test_an_order_and_its_message_are_stored_together_or_not_at_all(place: Place) -> None:
    run(place, "lease_worker.py", "order", "1", "2")
    run(place, "lease_worker.py", "order", "3", "1", status=1)
    assert (rows(place, "orders"), place.bodies("shipping")) == ([1, 2], ["1", "2"])


def test_each_order_ends_as_it_should(place: Place) -> None:
    run(place, "lease_worker.py", "order", "1", "13", "-5", "2")
    run(place, "lease_worker.py", "work")
    assert rows(place, "shipments") == [1, 2]
    assert (place.bodies("shipping"), place.bodies("shipping.dlq")) == (["13"], ["-5"])


def test_killed_again_and_again_a_worker_ships_each_order_once(place: Place) -> None:
    run(place, "lease_worker.py", "order", *map(str, range(100, 400)))
    for least in (20, 90, 160):
        worker = place.start(*call("lease_worker.py", "work"))
        eventually(shipped(place, least), within=20)
        kill_group(worker)
        done = {str(number) for number in rows(place, "shipments")}
        assert done.isdisjoint(place.bodies("shipping"))
    run(place, "lease_worker.py", "work")
    assert sorted(rows(place, "shipments")) == list(range(100, 400))
    assert place.bodies("shipping") == []


# Runs a program and kills it before the line of the function `ship` that is the *left*-th to run.
STRUCK = """
import os, runpy, signal, sys

left = int(sys.argv.pop(1))

def count(frame, event, _):
    global left
    if event == "line":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return count

sys.settrace(lambda frame, event, _: count if frame.f_code.co_name == "ship" else None)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_killed_between_any_two_lines_a_worker_ships_each_order_once(place: Place) -> None:
    run(place, "lease_worker.py", "order", *map(str, range(100, 120)))
    _, *program = call("lease_worker.py", "work")
    for left in range(1, 15):  # the lines of two orders
        words = [sys.executable, "-c", STRUCK, str(left), *program]
        place.run(*words, status=-signal.SIGKILL)
    run(place, "lease_worker.py", "work")
    assert sorted(rows(place, "shipments")) == list(range(100, 120))


def test_killed_in_its_transaction_an_order_leaves_nothing(place: Place) -> None:
    run(place, "lease_worker.py", "order", "1")
    with closing(sqlite3.connect(place.path / ".broker.db", timeout=0)) as connection:

        def locked() -> bool:
            try:
                connection.execute("begin immediate")
            except sqlite3.OperationalError:
                return True
            connection.rollback()
            return False

        child = place.start(*call("lease_worker.py", "order", *map(str, range(2, 5000))))
        eventually(locked, within=20)
        kill_group(child)
    assert len(rows(place, "orders")) == len(place.bodies("shipping"))
    run(place, "lease_worker.py", "order", "5001")
    assert rows(place, "orders")[-1] == int(place.bodies("shipping")[-1]) == 5001


# ----------------------------------------------------------------------------------- async_service


def test_what_tasks_write_at_once_is_worked_on_in_batches(place: Place) -> None:
    bodies = numbered(200)
    run(place, "async_service.py", "write", *bodies)
    assert sorted(place.bodies("jobs")) == bodies
    said = run(place, "async_service.py", "batch")
    worked = [line.split()[1] for line in said]
    assert (sorted(worked[::2]), worked[::2]) == (bodies, worked[1::2])
    assert sorted(place.bodies("done")) == bodies


def test_a_kill_repeats_at_most_a_batch(place: Place) -> None:
    bodies = numbered(100)
    place.write("jobs", *bodies)
    first = killed_after(place.start(*call("async_service.py", "batch")), 71)  # in the 36th
    assert first[-1] != f"ended {bodies[-1]}"
    run(place, "async_service.py", "batch")
    done = Counter(place.bodies("done"))
    assert sorted(done) == bodies
    assert done.total() - len(done) <= 20
    assert place.messages("jobs") == []


def test_workers_of_a_service_work_side_by_side_and_keep_what_fails(place: Place) -> None:
    service = place.start(*call("async_service.py", "serve", "3"))
    place.write("jobs", *numbered(30), "bad one")
    said = lines(service, 61)
    service.terminate()
    assert rest(service) == []
    kinds = [line.split()[0] for line in said]
    assert ("begun", "begun") in pairwise(kinds)
    assert (kinds.count("begun"), kinds.count("ended")) == (30, 30)
    assert "failed bad one not with me" in said
    assert place.bodies("jobs.failed") == ["bad one"]
    assert sorted(place.bodies("done")) == numbered(30)


@pytest.mark.parametrize("number", ENDING)
def test_a_service_told_to_end_finishes_what_is_in_hand(place: Place, number: int) -> None:
    bodies = numbered(300)
    place.write("jobs", *bodies)
    service = place.start(*call("async_service.py", "serve", "3"))
    said = lines(service, 20)
    service.send_signal(number)
    said += rest(service)
    begun, ended = (
        sorted(line.split()[1] for line in said if line.startswith(kind))
        for kind in ("begun", "ended")
    )
    assert begun == ended == sorted(place.bodies("done"))
    assert sorted(begun + place.bodies("jobs")) == bodies


def test_a_service_whose_database_is_gone_ends(place: Place) -> None:
    place.write("jobs", "a")
    service = place.start(*call("async_service.py", "serve", "2"))
    assert lines(service, 2) == ["begun a", "ended a"]
    for path in place.path.glob(".broker.db*"):
        path.unlink()
    assert "StoreGone" in "".join(rest(service, status=1))
