"""Transcripts of SimpleBroker's documents, and of its corners, go with ours as with 3.6.1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from parity.cases import CASES
from parity.differences import DIFFERENCES, Difference
from parity.record import ask, recorded
from parity.transcript import (
    Answer,
    Case,
    Normaliser,
    Tools,
    run_case,
    start_cases,
    without_our_id,
)

OURS = "from brokerrun.cli.broker import main\nmain()\n"
RECORDED = recorded()
Running = dict[str, Future[list[Answer]]]


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Begin all cases that were selected, so that they run side by side."""
    root = tmp_path_factory.mktemp("parity")
    tools = Tools.make(root, OURS)

    def run(case: Case) -> list[Answer]:
        (folder := root / case.name).mkdir()
        return run_case(case, tools, folder)

    called = [getattr(item, "callspec", None) for item in request.session.items]
    given = [spec.params.get("case") for spec in called if spec is not None]
    futures = start_cases([case for case in CASES if any(case is one for one in given)], run)
    yield futures
    for future in futures.values():
        future.cancel()


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if case.slow else []) for case in CASES],
    ids=[case.name for case in CASES],
)
def test_every_step_answers_as_recorded_or_as_listed(case: Case, running: Running) -> None:
    expected = [(line, _expected(case, line, answer)) for line, answer in RECORDED[case.name]]
    answers = running[case.name].result()
    ours = [
        (step.line, replace(answer, out=without_our_id(answer.out)))
        for step, answer in zip(case.steps, answers, strict=True)
    ]
    assert ours == expected


def test_every_case_stands_in_the_record_line_by_line() -> None:
    lines = {name: [line for line, _ in steps] for name, steps in RECORDED.items()}
    assert lines == {case.name: [step.line for step in case.steps] for case in CASES}


@pytest.mark.parametrize("listed", DIFFERENCES, ids=lambda one: f"{one.case}: {one.line}")
def test_listed_difference_differs_from_the_record(listed: Difference) -> None:
    (answer,) = [answer for line, answer in RECORDED[listed.case] if line == listed.line]
    changes = listed.changes
    assert changes
    assert all(getattr(answer, name) != value for name, value in changes.items())


def test_same_id_is_the_same_word_all_through_a_case(tmp_path: Path) -> None:
    normalise = Normaliser(tmp_path)
    first, second = "1837025672140161024", "1837025672140161025"
    assert normalise(f"{second} {first}\t{second}") == "<id1> <id2>\t<id1>"
    assert normalise(f"{first} 12345678901234567890") == "<id2> 12345678901234567890"
    assert normalise(f'{tmp_path}/x "db_size": 4096') == '<folder>/x "db_size": <size>'


def test_our_own_key_is_taken_away() -> None:
    ours = '{"message": "x", "timestamp": <id1>, "id": "<id1>", "attempts": 1}'
    assert without_our_id(ours) == '{"message": "x", "timestamp": <id1>, "attempts": 1}'


@pytest.mark.parametrize(
    "printed",
    [
        '{"timestamp": <id1>, "id": "<id2>"}',
        '{"timestamp": <id1>, "id": <id1>}',
        '{"id": "<id1>", "timestamp": <id1>}',
    ],
)
def test_another_key_than_our_own_stays_and_is_seen(printed: str) -> None:
    assert without_our_id(printed) == printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_record_is_what_simplebroker_says_today(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    pip = [str(tmp_path / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "simplebroker==3.6.1"], check=True)
    assert ask(tmp_path / "bin" / "broker") == RECORDED


def _expected(case: Case, line: str, answer: Answer) -> Answer:
    for listed in DIFFERENCES:
        if (listed.case, listed.line) == (case.name, line):
            return Answer(**{**asdict(answer), **listed.changes})
    return answer
