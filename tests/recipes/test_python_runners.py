"""The runners of `examples/python`: each keeps what it promises."""

from __future__ import annotations

import re
import sys

import pytest
from recipes.place import Place, ends
from recipes.programs import PROGRAMS, call, numbered, rest, run

# ----------------------------------------------------------------------------------------- runners

RUNNERS = [("pool_runner.py", "PoolRunner"), ("daemon_runner.py", "DaemonRunner")]
# Uses a runner before a fork and in the child, which a hang would end with SIGALRM. With a further
# word another thread has what the runner lends, but is in no transaction.
FORKING = """
import os, runpy, signal, sys, threading
from brokerrun import Queue
from brokerrun.ext import SQLiteRunner

kind = runpy.run_path(sys.argv[1])[sys.argv[2]]
runner = kind(".broker.db", 1) if sys.argv[2] == "PoolRunner" else kind(".broker.db")
queue = Queue("q", runner=runner)
queue.write("of the parent")
run, lent = SQLiteRunner.run, threading.Event()
if sys.argv[3:]:
    def stay(self, *words, **more):
        rows = run(self, *words, **more)
        lent.set()
        threading.Event().wait()
    SQLiteRunner.run = stay
    threading.Thread(target=runner.run, args=["select 1"], daemon=True).start()
    lent.wait(20)
    SQLiteRunner.run = run
child = os.fork()
if child == 0:
    signal.alarm(20)
    queue.write("of the child")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if not sys.argv[3:]:
    queue.write("of the parent again")
os._exit(0)
"""
# What one thread counts while another is in a transaction that deletes all, and is undone.
PEEPING = """
import runpy, sys, threading
from brokerrun import Queue

runner = runpy.run_path(sys.argv[1])[sys.argv[2]](".broker.db")
Queue("q", runner=runner).write("it")

def count():
    print(list(runner.run("select count(*) from message", fetch=True)), flush=True)

runner.begin_immediate()
runner.run("delete from message")
count()
thread = threading.Thread(target=count)
thread.start()
thread.join(0.3)  # it ends at once, or waits for the end of the transaction
runner.rollback()
thread.join(20)
runner.close()
"""


def test_a_logging_runner_says_each_statement_and_no_body(place: Place) -> None:
    child = place.start(*call("logging_runner.py", "secret"))
    said = rest(child)
    assert [line for line in said if "secret" in line] == ["secret"]
    said.remove("secret")
    assert said.count("begin") == said.count("commit") == 2
    assert all(re.fullmatch(r"\d+\.\d\d ms: .+|begin|commit", line) for line in said)
    assert "ms: insert into message" in "\n".join(said)


@pytest.mark.parametrize("program", [program for program, _ in RUNNERS])
def test_threads_share_a_runner(place: Place, program: str) -> None:
    bodies = numbered(400)
    assert sorted(run(place, program, *bodies)) == bodies


@pytest.mark.parametrize(("program", "runner"), RUNNERS)
def test_a_forked_child_uses_the_runner_too(place: Place, program: str, runner: str) -> None:
    path = str(PROGRAMS / program)
    assert place.run(sys.executable, "-c", FORKING, path, runner) == "0\n"
    assert place.bodies("q") == ["of the parent", "of the child", "of the parent again"]


@pytest.mark.parametrize(("program", "runner"), RUNNERS)
def test_a_transaction_is_seen_by_its_own_thread_only(
    place: Place, program: str, runner: str
) -> None:
    path = str(PROGRAMS / program)
    assert place.run(sys.executable, "-c", PEEPING, path, runner) == "[(0,)]\n[(1,)]\n"


@pytest.mark.parametrize(("program", "runner"), RUNNERS)
def test_a_child_has_all_that_a_thread_of_the_parent_was_lent(
    place: Place, program: str, runner: str
) -> None:
    path = str(PROGRAMS / program)
    assert place.run(sys.executable, "-c", FORKING, path, runner, "lent") == "0\n"
    assert place.bodies("q") == ["of the parent", "of the child"]


def test_the_tests_with_a_fake_runner_pass_and_leave_no_file(place: Place) -> None:
    before = list(place.path.iterdir())
    child = place.start(*call("fake_runner.py"))
    assert re.search(r"Ran 4 tests in .*\n\nOK", ends(child))
    assert list(place.path.iterdir()) == before
