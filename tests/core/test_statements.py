"""The literals of the statements against the table of steps."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from brokerrun.core.backends.sqlite import rows
from brokerrun.core.backends.sqlite.birth import MIGRATIONS
from brokerrun.core.statements import beside, load_statements
from brokerrun.core.states import STEPS, Event, State

SQL = rows.SQL
_STEP = re.compile(r"-- step: (\w+) (\w+)")
CARRIED = [
    (name, State[state], Event[event])
    for name, text in SQL.items()
    for state, event in _STEP.findall(text)
]


# Two steps in one statement: (name, the state it starts from, the step that ends it).
TOGETHER = [
    (name, first, last)
    for name, text in SQL.items()
    for first, last in re.findall(r"-- steps: (\w+ \w+), (\w+ \w+)", text)
]


def cell_of(words: str) -> tuple[State, Event]:
    state, event = words.split()
    return State[state], Event[event]


def code(name: str) -> str:
    """Return the statement without its comments."""
    return " ".join(line for line in SQL[name].splitlines() if not line.startswith("--"))


def set_part(name: str) -> str:
    return re.split(r"\bwhere\b", code(name).partition(" set ")[2])[0]


def where_part(name: str) -> str:
    return code(name).partition(" where ")[2]


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:")
    for name in MIGRATIONS:
        with open(beside(rows.__file__, name), encoding="utf-8") as file:
            db.executescript(file.read())
    yield db
    db.close()


@pytest.mark.parametrize("cell", STEPS)
def test_every_cell_of_the_table_has_a_statement(cell: tuple[State, Event]) -> None:
    assert cell in {(state, event) for _, state, event in CARRIED}


@pytest.mark.parametrize(("name", "state", "event"), CARRIED)
def test_a_statement_does_what_its_cell_says(name: str, state: State, event: Event) -> None:
    step = STEPS[state, event]
    if step.to is None:
        assert code(name).startswith("delete from message")
        return
    changes = set_part(name)
    assert code(name).startswith("update message")
    assert f"state = {step.to.value}" in changes
    attempts = re.search(r"attempts = ([^,]+)", changes)
    if step.new_life:
        assert attempts
        assert attempts[1].strip() == "0"
        assert "crashes = 0" in changes
    elif step.attempts:
        assert attempts
        assert attempts[1].strip() == f"attempts {step.attempts:+d}".replace("+", "+ ").replace(
            "-", "- "
        )
    else:
        assert not attempts
    assert step.new_life or "crashes = 0" not in changes


@pytest.mark.parametrize(("name", "state", "event"), CARRIED)
def test_a_statement_is_guarded_by_the_state_it_starts_from(
    name: str, state: State, event: Event
) -> None:
    guards = re.findall(r"\bstate = (\d)", where_part(name))
    if event is Event.DELETE and not guards:
        assert {cell for cell in STEPS if cell[1] is Event.DELETE} == {
            (state, event) for carrier, state, event in CARRIED if carrier == name
        }
    else:
        assert set(guards) == {str(state.value)}


@pytest.mark.parametrize(("name", "state", "event"), CARRIED)
def test_the_answer_of_an_owner_is_guarded_by_its_receipt(
    name: str, state: State, event: Event
) -> None:
    answers = (Event.ACK, Event.RETRY, Event.RELEASE, Event.BURY, Event.EXTEND)
    assert ("receipt = :receipt" in where_part(name)) is (event in answers)


@pytest.mark.parametrize(("name", "state", "event"), CARRIED)
def test_what_ends_a_hold_leaves_no_trace_of_it(name: str, state: State, event: Event) -> None:
    if state is State.LEASED and STEPS[state, event].to is State.READY:
        for column in ("home", "owner", "receipt"):
            assert f"{column} = null" in set_part(name)


@pytest.mark.parametrize("name", SQL)
def test_who_changes_a_state_names_its_cell(name: str) -> None:
    changes = code(name).startswith("update message") and "state = " in set_part(name)
    ends = code(name).startswith("delete from message")
    named = _STEP.search(SQL[name]) or name in {name for name, _, _ in TOGETHER}
    assert bool(named) is (changes or ends)


@pytest.mark.parametrize(("name", "first", "last"), TOGETHER)
def test_two_steps_at_once_do_what_one_after_the_other_does(
    db: sqlite3.Connection, name: str, first: str, last: str
) -> None:
    """Run the two statements, then the one, on a row that has something in each column."""
    row = GOOD | LEASED | {"queue": 5, "home": 4, "ready_at": 9, "attempts": 3, "crashes": 2}
    given = {"id": 1, "ids": "[1]", "receipt": 8, "ready_at": None, "target": 6}
    found = []
    for steps in (["release", cell_of(last)[1].value], [name]):
        put(db, row)
        for step in steps:
            assert db.execute(SQL[step], given).rowcount == 1
        found.append(db.execute("select * from message").fetchall())
        db.rollback()
    assert found[0] == found[1]
    assert cell_of(first) == (State.LEASED, Event.RELEASE)
    put(db, row)
    assert db.execute(SQL[name], given | {"receipt": 7}).rowcount == 0
    db.rollback()


@pytest.mark.parametrize("name", SQL)
def test_every_statement_can_be_prepared(db: sqlite3.Connection, name: str) -> None:
    db.execute(f"explain {SQL[name]}", parameters_of(name))


@pytest.mark.parametrize("name", SQL)
def test_no_statement_binds_a_state(name: str) -> None:
    assert not re.search(r"\bstate\s*(=|<>|in)\s*[:?(]", code(name))


def parameters_of(name: str) -> dict[str, Any]:
    return dict.fromkeys(re.findall(r":(\w+)", code(name)), 1)


def test_a_statements_file_is_read_block_by_block(tmp_path: Any) -> None:
    file = tmp_path / "x.sql"
    file.write_text("-- About it.\n\n-- name: one\nselect 1\n\n-- name: two\n-- Why.\nselect 2\n")
    assert load_statements(str(file)) == {"one": "select 1", "two": "-- Why.\nselect 2"}


# ---------------------------------------------------------------------------------- constraints

GOOD = {
    "id": 1,
    "queue": 1,
    "state": 0,
    "priority": 0,
    "ready_at": None,
    "attempts": 0,
    "crashes": 0,
    "home": None,
    "owner": None,
    "receipt": None,
    "body": "x",
}
LEASED = {"state": 1, "owner": 7, "receipt": 8}
IMPOSSIBLE = [
    {"state": 3},
    {"state": -1},
    {"state": 1},
    {"state": 1, "owner": 7},
    {"state": 1, "receipt": 8},
    {"owner": 7},
    {"receipt": 8},
    {"state": 2, "owner": 7, "receipt": 8},
    {"home": 1},
    {"state": 2, "home": 1},
    {"state": 2, "ready_at": 5},
    {"attempts": -1},
    {"crashes": -1},
    {"body": None},
    {"queue": None},
]
POSSIBLE = [{}, {"ready_at": 5}, {"state": 2}, LEASED, LEASED | {"home": 1, "ready_at": 5}]


def put(db: sqlite3.Connection, row: dict[str, Any]) -> None:
    columns = ", ".join(row)
    marks = ", ".join(f":{column}" for column in row)
    db.execute(f"insert into message({columns}) values ({marks})", row)


def insert(db: sqlite3.Connection, changes: dict[str, Any]) -> None:
    try:
        put(db, GOOD | changes)
    finally:
        db.rollback()


@pytest.mark.parametrize("changes", IMPOSSIBLE, ids=str)
def test_a_row_that_cannot_be_is_refused(db: sqlite3.Connection, changes: dict[str, Any]) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(db, changes)


@pytest.mark.parametrize("changes", POSSIBLE, ids=str)
def test_a_row_that_can_be_is_taken(db: sqlite3.Connection, changes: dict[str, Any]) -> None:
    insert(db, changes)
