"""Whatever somebody types: no traceback, one of the exit statuses, one sentence on an error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerrun.cli.broker import _HOMES, main
from brokerrun.cli.full_parser import VERBS
from brokerrun.cli.grammar import GLOBAL, Option, Verb

LONGEST = 0.2  # seconds until a command that waits is told to end
MEMORY = "/dev/shm"  # what a disk costs is not asked here
ENDED_BY_SIGNAL = (128 + signal.SIGINT, 128 + signal.SIGTERM)

QUEUES = ["q", "r", "q.dlq", "@a", "@", "@@a", ".q", "-q", "q" * 513, "q\n", "ü", "", "*", "a/b"]
TIMES = ["5", "0", "-1", "1837025672140161024", "9" * 19, "9" * 40, "2026-01-31", "0001-01-01"]
TIMES += ["2026-01-31T25:00:00", "1e9", "nan", "inf", "5ms", "september", "١٢٣", "0x5", " 5 "]
DURATIONS = ["5ms", "0s", "1d", "1e400s", "-5s", "nan s", "infs", "5", "s", "9" * 30 + "d", "1.5s"]
NUMBERS = ["1", "0", "-1", "1000001", "9" * 30, "1.5", "x", "", "-9223372036854775808"]
RECEIPTS = ["1837025672140161024-1", "x", "1-1", "-1", "9" * 30 + "-" + "f" * 30, "1837-zz", "-"]
ODD = ["", "-", "--", "---", "-x", "--nope", "--json=1", "--all=", "=", "-m", "-t", "\x1b[31m"]
ODD += [
    "\U0001f600",
    "a\nb",
    os.fsdecode(b"\xff\xfe"),
    "%s",
    "{}",
    "'",
    '"',
    "x" * 70_000,
    "--help",
]
FILES = ["x.db", "none.json", ".", "", "/dev/null", "a;b", "../x.db", "/nonexistent/x.db", "text"]
GLOBS = ["*", "[", "q*", "[!", "?" * 600, ""]
PROGRAMS = ["true", "false", "cat", "./none", "/dev/null", ""]
VALUES = {
    "QUEUE": QUEUES,
    "TIME": TIMES,
    "DURATION": DURATIONS,
    "N": NUMBERS,
    "ID": TIMES,
    "GLOB": GLOBS,
    "P": GLOBS + QUEUES,
    "TEXT": ODD,
    "PATH": [".", "sub", "/nonexistent", "", "text"],
    "NAME": FILES,
}
WORDS = {
    "MESSAGE": ODD,
    "[MESSAGE]": ODD,
    "[QUEUE]": QUEUES,
    "[QUEUE...]": QUEUES,
    "SOURCE": QUEUES,
    "TARGET": QUEUES,
    "OLD": QUEUES,
    "NEW": QUEUES,
    "ALIAS": ["a", "b", *QUEUES],
    "ID": TIMES,
    "RECEIPT": RECEIPTS,
    "RECEIPT...": RECEIPTS,
    "COMMAND...": PROGRAMS,
    "FILE": FILES,
    "[FILE]": FILES,
    "SHELL": ["bash", "zsh", "fish", "csh", ""],
    **VALUES,
}
INPUTS = [b"", b"a\nb\n", b'"x"\n{"message": "y", "priority": 1}\n', b"\xff\n", b"{}\n[\n", b"\x00"]
INPUTS += [b'{"message": 5}\n', b'{"message": "x", "delay": "1e999s"}\n', b'{"queue": "q"}\n']
INPUTS += [b'{"queue": "q", "message": "x", "timestamp": 1837025672140161024}\n', b"[" * 99_999]


for module, _ in _HOMES.values():  # once, not in each child
    import_module(f"brokerrun.cli.{module}")


def sometimes(word: st.SearchStrategy[str], odd: list[str]) -> st.SearchStrategy[str]:
    text = st.text(st.characters(exclude_characters="\0"), max_size=20)
    return st.one_of(word, word, word, word, st.sampled_from(odd), text)


def option_words(option: Option) -> st.SearchStrategy[list[str]]:
    name = st.sampled_from([*option.names, option.names[-1][:-1]])
    if option.metavar is None:
        return st.tuples(name).map(list)
    value = sometimes(st.sampled_from(VALUES[option.metavar]), ODD)
    return st.one_of(
        st.tuples(name, value).map(list), st.tuples(name, value).map(lambda both: ["=".join(both)])
    )


def verb_words(verb: Verb) -> st.SearchStrategy[list[str]]:
    operands = [sometimes(st.sampled_from(WORDS[word]), ODD) for word in verb.words]
    parts = st.tuples(
        st.tuples(*operands).map(list),
        st.lists(st.one_of(*map(option_words, verb.options)), max_size=3)
        if verb.options
        else st.just([]),
        st.lists(st.sampled_from(ODD), max_size=1) if verb.name != "exec" else st.just([]),
        st.booleans(),
    )

    def arranged(drawn: tuple[list[str], list[list[str]], list[str], bool]) -> list[str]:
        operands, options, odd, first = drawn
        optional = [word for option in options for word in option]
        rest = [*optional, *operands] if first or verb.name == "exec" else [*operands, *optional]
        return [*verb.name.split(), *rest, *odd]

    return parts.map(arranged)


ALONE = [["--status"], ["--status", "--json"], ["--vacuum"], ["--vacuum", "--compact"]]
ALONE += [["--cleanup"], ["--version"], ["-h"], [], ["--json"], ["alias"], ["--vacuum", "list"]]
USUAL = [["write", "q", "x"], ["write", "q", "--lines"], ["alias", "add", "a", "q"], ["claim", "q"]]
BEFORE = st.lists(st.one_of(*map(option_words, GLOBAL)), max_size=1).map(
    lambda options: [word for option in options for word in option]
)
LINES = st.tuples(
    st.one_of(st.just([]), st.just([]), st.just([]), BEFORE),
    st.one_of(
        st.sampled_from(USUAL),
        st.sampled_from(ALONE),
        *[verb_words(verb) for verb in VERBS.values()],
    ),
    st.sampled_from(INPUTS),
).map(lambda drawn: ([*drawn[0], *drawn[1]], drawn[2]))
SESSIONS = st.lists(LINES, min_size=5, max_size=5)


def play(session: Sequence[tuple[list[str], bytes]]) -> Counter[str]:
    """Run command lines one after the other in a fresh folder; count how they ended."""
    folder = tempfile.mkdtemp(prefix="lines-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    outcomes: Counter[str] = Counter()
    try:
        Path(folder, "text").write_text("of somebody else\n" * 100)
        for words, stdin in session:
            status, said = ran(words, stdin, folder)
            check(words, status, said)
            outcomes[str(status)] += 1
    finally:
        shutil.rmtree(folder)
    return outcomes


def ran(words: list[str], stdin: bytes, folder: str) -> tuple[int, str]:
    """Run a command line in a forked child; return its exit status and what it said."""
    said = os.path.join(folder, "said")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        become(words, folder, reading, said)
    os.close(reading)
    with suppress(BrokenPipeError):
        os.write(writing, stdin[:60_000])
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(said, encoding="utf-8", errors="backslashreplace") as file:
        return status, file.read()


def become(words: list[str], folder: str, stdin: int, said: str) -> NoReturn:
    status: Any = 99
    try:
        os.chdir(folder)
        os.environ["BROKER_SYNC_MODE"] = "OFF"
        os.dup2(stdin, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
        sys.argv = ["broker", *words]
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, LONGEST if waits(words) else 20, LONGEST)
        main()
    except SystemExit as leaving:
        status = leaving.code
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def waits(words: list[str]) -> bool:
    return bool({"watch", "exec"} & set(words)) or any(word.startswith("--w") for word in words)


def check(words: list[str], status: int, said: str) -> None:
    case = (words, status, said[-2000:])
    assert "Traceback" not in said, case
    assert "Exception ignored" not in said, case
    assert status in (0, 1, 2) or (waits(words) and status in ENDED_BY_SIGNAL), case
    if status == 1 and "exec" not in words:
        last = said.rstrip("\n").rpartition("\n")[2]
        if last.startswith("{"):
            assert set(json.loads(last)) == {"error", "message", "hint", "code"}, case
        else:
            assert last.startswith("broker: error: "), case
    elif status == 2:
        assert "error" not in said, case


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(SESSIONS)
def test_no_command_line_breaks_the_command(session: list[tuple[list[str], bytes]]) -> None:
    play(session)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_command_lines_break_nothing() -> None:
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=4000,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(SESSIONS)
    def all_of_them(session: list[tuple[list[str], bytes]]) -> None:
        outcomes.update(play(session))

    all_of_them()
    print(dict(outcomes), sum(outcomes.values()))
    assert sum(outcomes.values()) >= 20_000
