"""The documents' Python snippets run as written but for the import line, and do what they did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from parity.python.differences import DIFFERENCES
from parity.python.record import OURS, PEERS, chosen, recorded, start
from parity.python.snippet import SNIPPETS as FILES
from parity.python.snippet import Snippet, document
from parity.python.table import SNIPPETS
from parity.transcript import Answer

RECORDED = recorded()
every_snippet = pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Answer]]]:
    """Begin all snippets that were selected, so that they run side by side."""
    called = [getattr(item, "callspec", None) for item in request.session.items]
    selected = [spec.params.get("snippet") for spec in called if spec is not None]
    snippets = [one for one in SNIPPETS if one in selected]
    futures = start(OURS, sys.executable, tmp_path_factory.mktemp("snippets"), snippets)
    yield futures
    for future in futures.values():
        future.cancel()


@every_snippet
def test_every_snippet_does_here_what_is_recorded(
    snippet: Snippet, running: dict[str, Future[Answer]]
) -> None:
    assert running[snippet.name].result() == RECORDED[snippet.name][OURS]


@every_snippet
def test_what_works_on_simplebroker_works_alike_here_and_all_else_is_listed(
    snippet: Snippet,
) -> None:
    answers = RECORDED[snippet.name]
    alike = answers[OURS] == works_there(answers)
    assert alike != (snippet.name in DIFFERENCES)


@every_snippet
def test_nothing_is_changed_in_a_snippet_but_where_it_imports_from(snippet: Snippet) -> None:
    theirs, ours = (snippet.program(ours=whose).splitlines() for whose in (False, True))
    changed = [pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1]]
    for before, after in changed:
        assert before.split()[0] == after.split()[0] == "from"
        assert before.split()[2:] == after.split()[2:]
    assert "from simplebroker import" not in "\n".join(ours)


def test_every_snippet_stands_in_the_table_and_in_the_record_of_all_that_it_is_for() -> None:
    names = [one.name for one in SNIPPETS]
    assert sorted(names) == sorted(file.stem for file in FILES.glob("*.py"))
    expected = {name: {OURS, *PEERS[document(name)]} for name in names}
    assert {name: {*answers} for name, answers in RECORDED.items()} == expected
    assert DIFFERENCES.keys() <= expected.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["3.6.1", "2.8.1"])
def test_record_is_what_simplebroker_does_today(tmp_path: Path, version: str) -> None:
    python = str(tmp_path / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    # 2.8.1 imports typing_extensions and does not declare it.
    subprocess.run([*pip, f"simplebroker=={version}", "typing_extensions"], check=True)
    (root := tmp_path / "root").mkdir()
    answers = start(version, python, root, chosen(version))
    assert {name: answer.result() for name, answer in answers.items()} == {
        name: answers[version] for name, answers in RECORDED.items() if version in answers
    }


def works_there(answers: dict[str, Answer]) -> Answer | None:
    """Find what the newest SimpleBroker on which a snippet works does; None where on none."""
    newest_first = sorted(answers.keys() - {OURS}, reverse=True)
    return next((answers[who] for who in newest_first if answers[who].exit == 0), None)
