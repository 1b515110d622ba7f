"""The small parser and click read one table and give one answer."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brokerrun.cli import broker
from brokerrun.cli.full_parser import VERBS, parse_fully
from brokerrun.cli.grammar import GLOBAL, Option, Verb
from brokerrun.cli.hot_verbs import HOT
from brokerrun.cli.small_parser import is_message, parse
from brokerrun.core.broker import Broker
from brokerrun.errors import UsageError

OPERANDS = [
    "q",
    "a.b",
    "-",
    "hello world",
    "",
    "-5",
    "- x",
    "-x",
    "--- a/file",
    "--nope",
    "-t",
    "ü",
]
VALUES = ["5", "2026-01-31", "1837025672140161024", "-5", "--all", "", "x=y", "mail.*"]


def option_words(dice: random.Random, options: tuple[Option, ...]) -> list[str]:
    option = dice.choice(options)
    name = dice.choice(option.names)
    if option.metavar is None:
        return [name if dice.random() < 0.95 else f"{name}=1"]
    value = dice.choice(VALUES[:3] if dice.random() < 0.7 else VALUES)
    return dice.choice([[name, value], [name, value], [f"{name}={value}"], [name + value], [name]])


def command_line(dice: random.Random, verb: Verb) -> list[str]:
    words: list[str] = []
    for _ in range(dice.choice([0, 0, 0, 1, 2])):
        words += option_words(dice, GLOBAL)
    words.append(verb.name)
    count = len(verb.words) if dice.random() < 0.7 else dice.randrange(4)
    parts = [[dice.choice(OPERANDS[:2] if dice.random() < 0.6 else OPERANDS)] for _ in range(count)]
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        parts.append(option_words(dice, verb.options))
    if dice.random() < 0.15:
        parts.append(dice.choice([["--"], ["--help"], ["--jsn"], ["--al"], ["-tt"], ["-d", "x"]]))
    dice.shuffle(parts)
    return words + [word for part in parts for word in part]


@pytest.mark.parametrize("verb", HOT.values(), ids=list(HOT))
def test_small_parser_and_click_agree(verb: Verb) -> None:
    dice = random.Random(verb.name)
    certain = 0
    for _ in range(500):
        words = command_line(dice, verb)
        line = parse(words)
        if line is not None:
            certain += 1
            assert parse_fully(words) == line, words
    assert certain > 50


@pytest.fixture
def outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[[list[str]], tuple[int, str, str]]:
    """Run a line on a fresh copy of one database; return status and output, new numbers masked."""
    with Broker(str(tmp_path / "stocked.db")) as stocked:
        stocked.write_many("q", ["one", "- two", "three\nlines"])
        stocked.write_many("a.b", ["other"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROKER_SYNC_MODE", "OFF")

    def ran(words: list[str]) -> tuple[int, str, str]:
        shutil.copy("stocked.db", ".broker.db")
        with open(os.devnull) as stdin, monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin)
            status = broker.run(words)
        out, said = capfdbinary.readouterr()
        masked = re.sub(r"\d{19}(-[0-9a-z]+)?|\d+\.\d{5,}", "N", out.decode())
        return status, masked, said.decode()

    return ran


@pytest.mark.parametrize("verb", HOT.values(), ids=list(HOT))
def test_small_parser_and_click_do_the_same(
    verb: Verb,
    outcome: Callable[[list[str]], tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = random.Random(f"{verb.name} runs")
    statuses = set()
    for _ in range(40):
        words = [word for word in command_line(dice, verb) if word not in ("--wait", "--wait=5")]
        small = outcome(words)
        with monkeypatch.context() as patched:
            patched.setattr(broker, "parse", lambda _words: None)
            assert outcome(words) == small, words
        statuses.add(small[0])
    assert statuses <= {0, 1, 2}
    assert 0 in statuses or verb.name == "ack"  # no receipt of these is one


@pytest.mark.parametrize(
    "words",
    [
        "write q x",
        "read q --all --json",
        "peek q -t",
        "move a b -m 5",
        "list --stats",
        "delete q",
        "-d x -f y -q list",
        "write q -5",
        "write q -- --x",
        "peek q --since 5",
        "delete --all",
    ],
)
def test_the_usual_lines_need_no_click(words: str) -> None:
    assert parse(words.split()) == parse_fully(words.split())
    assert parse(words.split()) is not None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("-5", True),
        ("- x", True),
        ("-x", True),
        ("---", True),
        ("--- a/file", True),
        ("-- sql", True),
        ("--a b", True),
        ("--jsn", False),
        ("--a=b c", False),
        ("--X", False),
    ],
)
def test_what_looks_like_an_option_is_no_message(word: str, message: bool) -> None:
    assert is_message(word) is message


def test_misspelt_option_is_named_with_its_neighbour_and_the_way_out() -> None:
    with pytest.raises(UsageError) as caught:
        parse_fully(["write", "q", "--jsn"])
    assert "did you mean '--json'?" in str(caught.value)
    assert "use -- before a message that begins with '--'" in str(caught.value)


def test_beginning_of_an_option_stands_for_it_as_in_simplebroker() -> None:
    line = parse_fully(["peek", "q", "--al", "--ti", "-m=5"])
    assert not isinstance(line, str)
    assert (line.all, line.timestamps, line.id) == (True, True, "5")


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_usage_example_and_exit_statuses(verb: str) -> None:
    text = parse_fully([*verb.split(), "--help"])
    assert isinstance(text, str)
    assert text.startswith(f"Usage: broker {verb}")
    [example] = [each for each in text.splitlines() if "Example: " in each]
    assert "broker " in example
    assert verb in example
    assert "Exit status: 0" in text


@pytest.mark.parametrize("words", ["write q x", "write q x --json", "list", "delete q", "read q"])
def test_hot_verbs_load_no_heavy_module(words: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from brokerrun.cli.broker import run\n"
        f"run({words.split()!r})\n"
        "heavy = {'click', 'json', 'structlog', 'psutil', 'msgspec', 'argparse', 'asyncio'}\n"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
