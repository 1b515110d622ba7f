"""exec: a command for each message, its exit status the answer."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from shell import EVERY, Shell, end
from supervised import lives
from support import eventually

from brokerrun.core.states import State


def script(broker: Shell, text: str) -> str:
    """Write a Python program and return the words that run it."""
    path = broker.folder / "program.py"
    path.write_text("import os, signal, sys, time\n" + text)
    return shlex.join([sys.executable, "-S", "-E", str(path)])


def there(broker: Shell, name: str) -> str:
    """Wait for a file that a command writes, and return what is in it."""
    path = broker.folder / name
    return eventually(lambda: path.exists() and path.read_text(), 20) or ""


def running(broker: Shell, command: str, words: str = "q") -> tuple[subprocess.Popen[bytes], int]:
    """Start exec with a program that writes its pid; return exec, and that pid."""
    process = broker.start(f"exec {words} -- {command}")
    return process, int(there(broker, "pid"))


TELL_PID = "open('made', 'w').write(str(os.getpid())); os.rename('made', 'pid')\n"
SIMPLE_INT = "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # no traceback


# ------------------------------------------------------------------------------- what is handed in


def test_the_body_comes_on_standard_input_and_facts_in_the_environment(broker: Shell) -> None:
    ident = broker.ok("write q - -t", "two\nlines ü\n")
    command = "sh -c 'cat; env | grep ^BROKER_MESSAGE | sort'"
    done = end(broker.start(f"exec q -- {command}"))
    assert done.status == 0
    assert done.out == (
        "two\nlines ü\n"
        f"BROKER_MESSAGE_ATTEMPT=1\nBROKER_MESSAGE_ID={ident}\nBROKER_MESSAGE_QUEUE=q\n"
    )
    assert broker.store.queues() == []


def test_no_shell_reads_the_words_of_the_command(broker: Shell) -> None:
    broker.ok("write q x")
    done = end(broker.start("exec q -- echo '$HOME' ';' 'a b' --all --json"))
    assert done.out == "$HOME ; a b --all --json\n"


def test_a_body_of_ten_megabytes_is_read_whole_or_not_at_all(broker: Shell) -> None:
    size = 10 * 1024 * 1024
    broker.store.write("q", "x" * size)
    broker.store.write("q", "y" * size)
    assert end(broker.start("exec q -- wc -c")).out.strip() == str(size)
    assert end(broker.start("exec q -- true")).status == 0
    assert broker.store.queues() == []


def test_one_that_leaves_its_input_open_and_unread_keeps_nobody(broker: Shell) -> None:
    broker.store.write("q", "x" * 1_000_000)
    command = "exec 3<&0; sleep 60 <&3 >/dev/null 2>&1 & echo $! >made; mv made pid; exit 0"
    begun = time.monotonic()
    assert end(broker.start(f"exec q -- sh -c {shlex.quote(command)}")).status == 0
    os.kill(int(there(broker, "pid")), signal.SIGKILL)
    assert time.monotonic() - begun < 30


# ------------------------------------------------------------------------------------ how it ends


@pytest.mark.parametrize(
    ("ending", "status", "outcome", "queue"),
    [
        ("exit 0", 0, None, None),
        ("exit 75", 1, "retry", "q"),
        ("exit 65", 1, "dead", "q.dlq"),
        ("exit 78", 1, "dead", "q.dlq"),
        ("exit 1", 1, "failed", "q"),
        ("exit 255", 1, "failed", "q"),
        ("kill -9 $$", 1, "failed", "q"),
        ("kill -35 $$", 1, "failed", "q"),
    ],
)
def test_the_exit_status_says_what_becomes_of_the_message(
    broker: Shell, ending: str, status: int, outcome: str | None, queue: str | None
) -> None:
    ident = broker.store.write("q", "x")
    done = end(broker.start(f"exec q -- sh -c '{ending}'"))
    assert done.status == status
    attempts = broker.store.history(ident)
    assert [attempt.outcome for attempt in attempts] == ([outcome] if outcome else [])
    assert [stats.queue for stats in broker.store.queues()] == ([queue] if queue else [])
    assert done.err.count("\n") == (status != 0)
    if outcome:
        number = int(ending.split()[1].removeprefix("-"))
        ended = attempts[0].signal if "kill" in ending else attempts[0].exit_status
        assert ended == number
        assert attempts[0].started_at is not None
    if queue == "q":
        assert broker.one().ready_at is not None


def test_attempts_that_are_used_up_lead_to_the_dead_letters(broker: Shell) -> None:
    ident = broker.store.write("q", "x")
    words = "exec q --max-attempts 2 --dead-letter @d --wait 20s -- sh -c 'exit 75'"
    broker.ok("alias add d dead")
    assert [end(broker.start(words)).status for _ in range(2)] == [1, 1]
    assert broker.one("dead").id == ident
    assert [attempt.attempt for attempt in broker.store.history(ident)] == [1, 2]


def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(broker: Shell) -> None:
    ident = broker.store.write("q", "x")
    command = "trap '' TERM; sleep 60 & echo $! >made; mv made pid; wait"
    process = broker.start(f"exec q --timeout 700ms -- sh -c {shlex.quote(command)}")
    grandchild = int(there(broker, "pid"))
    assert end(process).status == 1
    eventually(lambda: not lives(grandchild))
    [attempt] = broker.store.history(ident)
    assert (attempt.outcome, attempt.signal) == ("timeout", signal.SIGKILL)


@pytest.mark.parametrize("command", ["./no-such-command", "./plain", "."])
def test_a_command_that_cannot_run_costs_no_attempt(broker: Shell, command: str) -> None:
    (broker.folder / "plain").write_text("no program")
    broker.store.write_many("q", ["x", "y"])
    for words in ("q", "q --all"):
        done = end(broker.start(f"exec {words} -- {command}"))
        assert (done.status, done.err.count("\n")) == (1, 1)
        assert f"cannot run '{command}'" in done.err
    assert {(m.state, m.attempts) for m in broker.store.peek("q")} == {(State.READY, 0)}
    assert broker.bodies() == ["x", "y"]


# --------------------------------------------------------------------------------------- --all


def test_all_goes_on_until_nothing_is_ready(broker: Shell) -> None:
    broker.store.write_many("q", ["a", "b", "c"])
    broker.store.write("q", "later", delay=60)
    done = end(broker.start("exec q --all -- sh -c 'cat; echo'"))
    assert (done.status, done.out) == (0, "a\nb\nc\n")
    assert broker.bodies() == ["later"]
    assert end(broker.start("exec q --all -- true")).status == 2


def test_all_ends_also_where_every_message_fails(broker: Shell) -> None:
    broker.store.write_many("q", ["a", "b", "c"])
    done = end(broker.start("exec q --all -- sh -c 'cat; echo; test $(wc -c) = 9'"))
    assert done.status == 1
    assert done.out == "a\nb\nc\n"  # each once: what is tried again is not ready yet
    assert sorted(broker.bodies()) == ["a", "b", "c"]
    assert {m.attempts for m in broker.store.peek("q", EVERY)} == {1}


# ------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_that_finishes_when_told_to_end_is_acknowledged(
    broker: Shell, signum: int, status: int
) -> None:
    broker.store.write_many("q", ["x" * 1_000_000, "next"])
    command = script(
        broker,
        "told = []\n"
        "for each in (signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(each, lambda *_: told.append(1))\n"
        + TELL_PID
        + "while not told: time.sleep(0.002)\n"
        "open('size', 'w').write(str(len(sys.stdin.read())))\n",
    )
    process, _ = running(broker, command, "q --all")
    assert end(process, signum).status == status
    assert there(broker, "size") == "1000000"
    assert broker.bodies() == ["next"]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_that_does_not_finish_is_given_back_unburned(
    broker: Shell, signum: int, status: int
) -> None:
    ident = broker.store.write("q", "x")
    command = script(broker, f"{SIMPLE_INT}{TELL_PID}time.sleep(60)\n")
    process, pid = running(broker, command)
    assert end(process, signum).status == status
    assert not lives(pid)
    shown = broker.one()
    assert (shown.state, shown.attempts, shown.ready_at) == (State.READY, 0, None)
    assert broker.store.history(ident) == []


def test_a_second_signal_does_not_wait_for_the_grace(broker: Shell) -> None:
    broker.store.write("q", "x")
    ignore = "signal.signal(signal.SIGTERM, lambda *_: open('told', 'w').write('x'))\n"
    endless = ignore + TELL_PID + "while True: time.sleep(0.01)\n"
    process, pid = running(broker, script(broker, endless))
    process.send_signal(signal.SIGTERM)
    there(broker, "told")
    # More than one: what follows at once counts as the first again.
    eventually(lambda: process.send_signal(signal.SIGTERM) or not lives(pid), 8)
    assert end(process).status == 143
    assert broker.one().attempts == 0


def test_a_killed_exec_takes_its_command_along_and_frees_the_message(broker: Shell) -> None:
    broker.store.write("q", "x")
    process, pid = running(broker, script(broker, TELL_PID + "time.sleep(60)\n"))
    assert broker("read q").status == 2
    end(process, signal.SIGKILL)
    eventually(lambda: not lives(pid))
    [facts] = broker("claim q --json").json
    assert facts["attempts"] == 2


def test_a_signal_between_two_commands_ends_all(broker: Shell) -> None:
    broker.store.write_many("q", [str(n) for n in range(2000)])
    process = broker.start("exec q --all -- true")
    eventually(lambda: len(broker.store.peek("q")) and broker.store.stats("q").total < 1995, 20)
    assert end(process, signal.SIGTERM).status == 143
    left = broker.store.stats("q")
    assert left.total > 0
    assert (left.running, left.ready) == (0, left.total)


STRIKE = """
import os, signal, sys
from brokerrun.cli.broker import main
from brokerrun.core.broker import Broker

claim = Broker.claim
def struck(*given):
    found = claim(*given)
    Broker.claim = claim
    os.kill(os.getpid(), signal.SIGTERM)
    return found
Broker.claim = struck
main()
"""


@pytest.mark.parametrize("words", ["exec q --wait 60s -- sleep 60", "claim q --wait 60s"])
@pytest.mark.parametrize("bodies", [[], ["x"]])
def test_a_signal_that_comes_with_the_claim_is_not_forgotten(
    broker: Shell, words: str, bodies: list[str]
) -> None:
    broker.store.write_many("q", bodies)
    command = [sys.executable, "-c", STRIKE, *words.split()]
    done = subprocess.run(command, cwd=broker.folder, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"", b"")
    assert broker.bodies() == bodies
    assert [m.attempts for m in broker.store.peek("q")] == [0 for _ in bodies]


# ------------------------------------------------------------------------------- places and words


def test_an_alias_names_the_queue(broker: Shell) -> None:
    broker.ok("alias add a q")
    broker.store.write("q", "x")
    assert end(broker.start("exec @a -- sh -c 'echo $BROKER_MESSAGE_QUEUE'")).out == "q\n"


def test_where_there_is_no_database_nothing_is_run_and_none_is_made(broker: Shell) -> None:
    assert broker("exec q -- touch ran").status == 2
    assert broker("exec @a -- touch ran").status == 1
    assert os.listdir(broker.folder) == []


def test_quiet_says_nothing_of_a_failure(broker: Shell) -> None:
    broker.store.write("q", "x")
    done = end(broker.start("-q exec q -- false"))
    assert (done.status, done.out, done.err) == (1, "", "")
