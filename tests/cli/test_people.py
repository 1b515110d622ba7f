"""What people meet: help, did you mean, errors that programs read, completion in three shells."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import Commands

from brokerrun.cli import broker, completion
from brokerrun.cli.full_parser import VERBS

SHELLS = ["bash", "zsh", "fish"]


class Said(NamedTuple):
    """What came of a command line in this process."""

    returncode: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def run(
    commands: Commands, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Said]:
    """Run a command line without a process of its own: there are many of them here."""
    monkeypatch.chdir(commands.folder)
    return lambda line: Said(broker.run(line.split()), *capfdbinary.readouterr())


@pytest.fixture
def words(
    capfdbinary: pytest.CaptureFixture[bytes],
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, str], list[str]]:
    """Return what a shell is offered for the line that was typed."""

    def offered(asked: str, typed: str) -> list[str]:
        monkeypatch.chdir(commands.folder)
        *before, last = typed.split(" ")
        if asked == "bash":
            facts = {"COMP_LINE": typed}
        elif asked == "zsh":
            facts = {"COMP_WORDS": typed, "COMP_CWORD": str(len(before))}
        else:
            facts = {"COMP_WORDS": " ".join(before), "COMP_CWORD": last}
        for name, value in facts.items():
            monkeypatch.setenv(name, value)
        assert completion.answer(f"{asked}_complete") == 0
        out, err = capfdbinary.readouterr()
        assert err == b""
        lines = out.decode().strip().splitlines()
        if asked == "zsh":
            return lines[1::3]
        return [re.split(r"[,\t]", line)[1] for line in lines]

    return offered


@pytest.fixture
def stocked(commands: Commands) -> Commands:
    with commands.opened() as broker:
        for queue in ("tasks", "tasks.failed", "mail"):
            broker.write(queue, "x")
        broker.store.add_alias("inbox", "mail")
    return commands


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("broker wat", {"watch"}),
        ("broker alias ", {"add", "remove", "list"}),
        ("broker read ta", {"tasks", "tasks.failed"}),
        ("broker read ", {"tasks", "tasks.failed", "mail", "@inbox"}),
        ("broker read @in", {"@inbox"}),
        ("broker -q move tasks ma", {"mail"}),
        ("broker watch tasks --move ma", {"mail"}),
        ("broker dump tasks ma", {"mail"}),
        ("broker read nobody", set()),
        ("broker -f other.db read ", set()),
        ("broker -d /nonexistent read ", set()),
        ("broker read tasks --al", {"--all"}),
    ],
)
def test_completion_offers_commands_options_and_live_queues(
    stocked: Commands,
    words: Callable[[str, str], list[str]],
    shell: str,
    typed: str,
    offered: set[str],
) -> None:
    assert set(words(shell, typed)) == offered


def test_completion_makes_no_database(
    commands: Commands, words: Callable[[str, str], list[str]]
) -> None:
    assert words("bash", "broker read ") == []
    assert os.listdir(commands.folder) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_the_script_of_a_shell(commands: Commands, shell: str) -> None:
    done = commands.run(f"completion {shell}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"_BROKER_COMPLETE={shell}_complete".encode() in done.stdout


def test_completion_of_another_shell_is_refused(commands: Commands) -> None:
    done = commands.run("completion csh")
    assert (done.returncode, b"bash, zsh, fish" in done.stderr) == (1, True)


class Terminal:
    """A bash at a terminal, in which somebody types."""

    def __init__(self, folder: Path):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            # Completion calls the command by its name: the one that is installed beside us.
            path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
            env = {**os.environ, "PS1": "> ", "TERM": "dumb", "PATH": path}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)

    def see(self, text: str, within: float = 10) -> str:
        """Return what appeared, as soon as *text* is in it."""
        seen, deadline = "", time.monotonic() + within
        while text not in seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} not in {seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                seen += os.read(self.fd, 65536).decode()
        return seen

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        os.close(self.fd)  # it hangs up
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(stocked: Commands) -> Iterator[Terminal]:
    terminal = Terminal(stocked.folder)
    terminal.see("> ")
    terminal.type('eval "$(broker completion bash)"; echo re""ady\n')
    terminal.see("ready\r\n")
    yield terminal
    terminal.close()


def test_bash_completes_at_a_terminal(terminal: Terminal) -> None:
    for typed, completed in {
        "broker wat": "watch ",
        "broker read ma": "mail ",
        "broker read @": "@inbox ",
        "broker read @in": "@inbox ",
        "broker watch tasks --move=ma": "--move=mail ",
    }.items():
        terminal.type(f"{typed}\t")
        terminal.see(completed)
        terminal.type("\x15")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("reed q", "'read'"),
        ("wach q", "'watch'"),
        ("alias remov x", "'remove'"),
        ("read q --al1", "'--all'"),
        ("list --pattrn x", "'--pattern'"),
        ("nack r --dead-leter x", "'--dead-letter'"),
        ("watch q --moove r", "'--move'"),
        ("--quiett list", "'--quiet'"),
    ],
)
def test_misspelt_word_is_answered_with_the_nearest(
    commands: Commands, run: Callable[[str], Said], line: str, meant: str
) -> None:
    done = run(line)
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"did you mean {meant}?" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert os.listdir(commands.folder) == []


@pytest.mark.parametrize("line", ["frobnicate", "alias frobnicate", "read", "move a", "ack", "-d"])
def test_word_without_a_neighbour_is_answered_with_what_helps(
    run: Callable[[str], Said], line: str
) -> None:
    done = run(line)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"broker: error: ")
    facts = json.loads(run(f"{line} --json").stderr)
    assert facts["code"] == 1
    assert facts["hint"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("read .q --json", "INVALID_QUEUE_NAME"),
        ("read q --json -m 12", "INVALID_ARGUMENT"),
        ("read q --json --after september", "INVALID_ARGUMENT"),
        ("move q q --json", "INVALID_ARGUMENT"),
        ("peek q --json --nonsense", "INVALID_ARGUMENT"),
        ("frobnicate --json", "INVALID_ARGUMENT"),
        ("watch @nobody --json", "INVALID_ARGUMENT"),
        ("-f foreign.txt list --json", "STORE"),
        ("-q read .q --json", "INVALID_QUEUE_NAME"),
    ],
)
def test_error_under_json_is_one_object(
    commands: Commands, run: Callable[[str], Said], line: str, error: str
) -> None:
    (commands.folder / "foreign.txt").write_text("of somebody else " * 100)
    done = run(line)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    facts = json.loads(done.stderr)
    assert set(facts) == {"error", "message", "hint", "code"}
    assert (facts["error"], facts["code"]) == (error, 1)
    assert facts["message"]


@pytest.mark.parametrize(
    ("verb", "flag"),
    [*((verb, "--help") for verb in ("", *VERBS)), ("", "-h"), ("read", "-h"), ("alias add", "-h")],
)
def test_help_is_short_complete_and_true(
    commands: Commands, run: Callable[[str], Said], verb: str, flag: str
) -> None:
    done = run(f"{verb} {flag}")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert text.startswith(f"Usage: broker {verb}".rstrip())
    assert "Exit status: 0" in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 60
    for option in VERBS[verb].options if verb else ():
        assert all(name in text for name in option.names)
        assert option.metavar is None or option.metavar in text
    if not verb:
        assert [each for each in VERBS if each.partition(" ")[0] not in text] == []
    assert os.listdir(commands.folder) == []


def test_message_that_asks_for_help_behind_dashes_is_a_message(commands: Commands) -> None:
    assert commands.run("write q -- --help").returncode == 0
    assert commands.run("write q -h").returncode == 0
    assert commands.left() == ["--help", "-h"]


@pytest.mark.parametrize(
    ("setting", "line"),
    [({"NO_COLOR": "1"}, "--help"), ({"TERM": "dumb"}, "reed q"), ({}, "--help"), ({}, "list")],
)
def test_no_colour_where_none_is_wanted(
    commands: Commands, setting: dict[str, str], line: str
) -> None:
    """At a terminal that says so, and (no setting) in a pipe."""
    ours, theirs = pty.openpty()
    at_terminal = {"stdout": theirs, "stderr": theirs, "capture_output": False} if setting else {}
    try:
        done = commands.run(line, env={**os.environ, **setting}, **at_terminal)
        os.write(theirs, b"end")
        shown = os.read(ours, 65536) if setting else done.stdout + done.stderr
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"\x1b" not in shown
