"""No statement walks all messages."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from brokerrun.core.backends.sqlite import rows
from brokerrun.core.backends.sqlite.birth import MIGRATIONS
from brokerrun.core.statements import beside

_SCAN = re.compile(r"SCAN (message|m|attempt|a)\b(?! USING (COVERING )?INDEX message_owner)")
_TOUCHES = re.compile(r"\b(from|join|into|update) (message|attempt)\b")
STATEMENTS = [name for name, text in rows.SQL.items() if _TOUCHES.search(text)]


@pytest.fixture(scope="module", params=["as it is made", "analyzed when full"])
def db(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:")
    for name in MIGRATIONS:
        with open(beside(rows.__file__, name), encoding="utf-8") as file:
            db.executescript(file.read())
    if request.param == "analyzed when full":
        fill(db)
        db.execute("analyze")
    yield db
    db.close()


def fill(db: sqlite3.Connection) -> None:
    db.execute("insert into queue(name) values ('q')")
    message = "insert into message(id, queue, state, ready_at, owner, receipt, body) values "
    for number in range(2000):
        ready_at = number if number % 2 else None
        db.execute(f"{message} (?, 1, 0, ?, null, null, 'x')", (number, ready_at))
    for number in range(2000, 2100):
        db.execute(f"{message} (?, 1, 1, null, ?, 9, 'x')", (number, number))
        db.execute(f"{message} (?, 1, 2, null, null, null, 'x')", (number + 1000,))
    for number in range(500):
        db.execute(
            "insert into attempt(message, queue, attempt, outcome, ended_at)"
            " values (?, 'q', 1, 'f', ?)",
            (number, number),
        )


def plan(db: sqlite3.Connection, statement: str) -> list[str]:
    # None: SQLite looks at what is bound when it plans, and a lucky value would find an index.
    parameters: dict[str, Any] = dict.fromkeys(re.findall(r":(\w+)", statement))
    found = db.execute(f"explain query plan {statement}", parameters)
    return [str(row[3]) for row in found]


def scans(db: sqlite3.Connection, statement: str) -> list[str]:
    return [line for line in plan(db, statement) if _SCAN.match(line)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_scans_the_messages(db: sqlite3.Connection, name: str) -> None:
    assert scans(db, rows.SQL[name]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select id from message where queue = :queue and state = :state",
        "select id from message m where m.state = :state",
        "select id from message order by priority",
        "delete from attempt where outcome = :outcome",
    ],
)
def test_a_bound_state_would_scan_and_be_found(db: sqlite3.Connection, statement: str) -> None:
    assert scans(db, statement)


@pytest.mark.parametrize("name", ["ready", "ready_page", "delayed_page"])
def test_no_taker_sorts(db: sqlite3.Connection, name: str) -> None:
    assert not any("TEMP B-TREE" in line for line in plan(db, rows.SQL[name]))


def test_the_plans_cover_the_statements() -> None:
    assert len(STATEMENTS) > 40
