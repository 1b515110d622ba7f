"""Our statements as a runner takes them: values by place, rows where there are any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from brokerrun.core.backends.sqlite.access import Row
    from brokerrun.core.sqlrunner import SQLRunner


_COMMENT = re.compile(r"--[^\n]*")
_PARAMETER = re.compile(r":([a-z_]+)")
_READS = re.compile(r"\s*(select|pragma|with)\b|.*\breturning\b", re.IGNORECASE | re.DOTALL)


class Positional:
    """Runs statements through a runner."""

    def __init__(self, runner: SQLRunner):
        self._runner = runner

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}, /) -> Answer:
        text, names, reads = _statement(sql)
        values = tuple([parameters[name] for name in names])
        found = self._runner.run(text, values, fetch=reads)
        return Answer(self, [tuple(row) for row in found] if reads else [])

    def executemany(self, sql: str, parameters: Iterable[Mapping[str, Any]], /) -> None:
        for values in parameters:
            self.execute(sql, values)


class Answer:
    """What came of one statement; the counts are asked for when they are wanted."""

    def __init__(self, database: Positional, rows: list[Row]):
        self._database, self._rows = database, rows

    @property
    def rowcount(self) -> int:
        return int(self._database.execute("select changes()").fetchall()[0][0])

    @property
    def lastrowid(self) -> int:
        return int(self._database.execute("select last_insert_rowid()").fetchall()[0][0])

    def fetchone(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Row]:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)


@cache
def _statement(sql: str) -> tuple[str, tuple[str, ...], bool]:
    """Return the statement with `?` in it, the names of its values, and whether it gives rows."""
    bare = _COMMENT.sub("", sql).strip()
    names = tuple(_PARAMETER.findall(bare))
    return _PARAMETER.sub("?", bare), names, _READS.match(bare) is not None
