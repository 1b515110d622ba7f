"""The line of each key of a TOML file, which no parser tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

At = tuple[str, ...]  # where in the file: ("workers", "emails", "queue")


class Lines:
    """The line of each key. Costs some 20 ms, paid when first asked."""

    def __init__(self, text: str):
        self._text = text

    def of(self, path: At) -> int:
        """Return the line of *path*, else that of the nearest table around it, else 0."""
        while path and path not in self._found:
            path = path[:-1]
        return self._found[path] if path else 0

    @cached_property
    def _found(self) -> dict[At, int]:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            document = tomlkit.parse(self._text)
        except (TOMLKitError, ValueError, RecursionError):  # what tomli takes and tomlkit does not
            return {}
        marked = list(_items(document.body, ()))
        # No parser tells lines: hang a number on each item as its comment, and see where it ends
        # up. Raw control characters are in no TOML text.
        for number, (_, item) in enumerate(marked):
            item.trivia.comment = f"#\0{number}\0"
        found: dict[At, int] = {}
        for line, text in enumerate(document.as_string().split("\n"), 1):
            for number in re.findall("#\0([0-9]+)\0", text):
                path, item = marked[int(number)]
                found.setdefault(path, line - _height(item))
        for path, line in sorted(found.items(), key=lambda entry: entry[1]):
            for end in range(1, len(path)):
                found.setdefault(path[:end], line)  # a table that only its keys name
        return found


def _items(body: Iterable[Any], at: At) -> Iterator[tuple[At, Any]]:
    """Walk a tomlkit document: each item of it with its path."""
    from tomlkit.items import AoT, Table

    for key, item in body:
        if key is None:
            continue
        path = (*at, key.key)
        yield path, item
        for table in item.body if isinstance(item, AoT) else [item]:
            if isinstance(table, Table):
                yield from _items(table.value.body, path)


def _height(item: Any) -> int:
    """Count the lines by which the end of *item*, where its comment is, lies below its key."""
    from tomlkit.items import AoT, Table

    return 0 if isinstance(item, Table | AoT) else int(item.as_string().count("\n"))
