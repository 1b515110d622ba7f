"""Record what SimpleBroker answers: `python tests/parity/record.py /path/to/bin/broker`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from parity.cases import CASES
from parity.transcript import Answer, Case, Tools, run_case, start_cases

Record = dict[str, list[tuple[str, Answer]]]  # case -> each line and its answer
RECORD: Final = Path(__file__).with_name("recorded.json")
_ATTEMPTS: Final = 5


def ask(broker: Path) -> Record:
    """Run every case with the program at *broker*; return what it answered."""
    with tempfile.TemporaryDirectory() as root:
        tools = Tools.make(Path(root), broker)
        answers = start_cases(CASES, partial(_patiently, tools, root))
        return {
            case.name: [
                (step.line, answer)
                for step, answer in zip(case.steps, answers[case.name].result(), strict=True)
            ]
            for case in CASES
        }


def recorded() -> Record:
    """Read the record in this folder."""
    return {
        name: [(step.pop("line"), Answer(**step)) for step in steps]
        for name, steps in json.loads(RECORD.read_text()).items()
    }


def _patiently(tools: Tools, root: str, case: Case) -> list[Answer]:
    """Run *case*, and again where a step hangs.

    A SIGINT that reaches 3.6.1 at the wrong moment is lost in its watcher.
    """
    for _ in range(_ATTEMPTS):
        with suppress(subprocess.TimeoutExpired):
            return run_case(case, tools, Path(tempfile.mkdtemp(dir=root)), patience=20)
    raise TimeoutError(f"{case.name} hung {_ATTEMPTS} times")


def _write(record: Record) -> None:
    steps = {
        name: [{"line": line, **asdict(answer)} for line, answer in answers]
        for name, answers in record.items()
    }
    RECORD.write_text(json.dumps(steps, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _write(ask(Path(sys.argv[1])))
