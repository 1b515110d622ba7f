"""What the documents say is so: their Python runs, their words are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from brokerrun.supervisor.keys import INSTANCE, WORKER_KEYS, Cost
from brokerrun.supervisor.slot import Phase

TOP = Path(__file__).parent.parent
BLOCKS = [
    (f"{name}:{text.count(chr(10), 0, found.start()) + 1}", found[1])
    for name in ("README.md", "docs/python.md")
    for text in [(TOP / name).read_text(encoding="utf-8")]
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if "import" in found[1]
]


@pytest.mark.parametrize(("place", "code"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_a_block_of_python_runs(place: str, code: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, ""), place


RUNNING = (TOP / "docs" / "running.md").read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    """Return what stands between backticks and is one word."""
    return set(re.findall(r"`([a-z_]+)`", text))


def test_the_costs_of_changed_keys_are_those_of_the_code() -> None:
    table = RUNNING.partition("| a change of | costs |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.strip().splitlines()[1:]]
    said = {kind: set[str]() for kind in ("nothing", "processes", "start")}
    for keys, cost in rows:
        said[next(kind for kind in said if kind in cost)] |= words(keys)
    live, fixed = keys_that_cost(Cost.LIVE), keys_that_cost(Cost.INSTANCE)
    assert (said["nothing"], said["start"]) == (live, fixed)
    assert said["processes"] <= keys_that_cost(Cost.WORKER)


def keys_that_cost(cost: Cost) -> set[str]:
    return {name for name, key in (INSTANCE | WORKER_KEYS).items() if key.cost is cost}


def test_the_states_of_a_worker_are_those_of_the_code() -> None:
    said = words(RUNNING.partition("A worker's `state` is")[2].partition("Message ids")[0])
    phases = {phase.value for phase in Phase if phase is not Phase.RUNNING}
    assert said == phases | {"idle", "busy", "paused", "backoff"}


def test_the_events_are_those_of_the_code() -> None:
    said = words(RUNNING.partition("`events` are kept")[2].partition("`logs` are")[0])
    code = "".join(path.read_text() for path in (TOP / "brokerrun/supervisor").glob("*.py"))
    assert said - {"history"} == {word for word in said if f'"{word}"' in code} - {"history"}
    assert len(said) > 15
