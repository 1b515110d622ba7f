"""Record what the snippets do: `python tests/parity/python/record.py NAME=PYTHON ...`.

NAME is `brokerrun`, or a version of SimpleBroker that is installed where PYTHON runs (2.8.1 needs
`typing_extensions`, which it does not declare). What is not named stays as it is recorded.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from parity.python.snippet import Snippet, document
from parity.python.table import SNIPPETS
from parity.transcript import Answer

Record = dict[str, dict[str, Answer]]  # snippet -> who ran it -> what it did
RECORD: Final = Path(__file__).with_name("recorded.json")
OURS: Final = "brokerrun"
PEERS: Final[dict[str, tuple[str, ...]]] = {  # document -> versions of SimpleBroker to ask
    "000": ("3.6.1", "2.8.1"),
    "001": ("3.6.1",),
    "002": ("3.6.1", "2.8.1"),
    "003": (),  # sqqueue
    "004": ("3.6.1",),
}


def chosen(who: str) -> list[Snippet]:
    """List the snippets that are for *who*."""
    return [one for one in SNIPPETS if who in (OURS, *PEERS[document(one.name)])]


def start(
    who: str, python: str, root: Path, snippets: Sequence[Snippet]
) -> dict[str, Future[Answer]]:
    """Begin to run *snippets* by *python*, some at a time, each in a folder of *root*."""

    def run(snippet: Snippet) -> Answer:
        (folder := root / snippet.name).mkdir()
        return snippet.run(python, folder, ours=who == OURS)

    pool = ThreadPoolExecutor(max_workers=4)  # some of them mostly sleep
    futures = {one.name: pool.submit(run, one) for one in snippets}
    pool.shutdown(wait=False)
    return futures


def recorded() -> Record:
    """Read the record in this folder."""
    return {
        name: {who: Answer(**answer) for who, answer in answers.items()}
        for name, answers in json.loads(RECORD.read_text(encoding="utf-8")).items()
    }


def _write(record: Record) -> None:
    plain = {
        name: {who: asdict(answer) for who, answer in sorted(record[name].items())}
        for name in sorted(record)
    }
    RECORD.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Run the snippets as each argument says, and write the record."""
    old = recorded() if RECORD.exists() else {}
    record: Record = {one.name: old.get(one.name, {}) for one in SNIPPETS}
    for argument in arguments:
        who, _, python = argument.partition("=")
        with tempfile.TemporaryDirectory() as root:
            for name, future in start(who, python, Path(root), chosen(who)).items():
                record[name][who] = future.result()
    _write(record)


if __name__ == "__main__":
    main(sys.argv[1:])
