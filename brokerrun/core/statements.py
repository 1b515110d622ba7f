"""Load the named blocks of a statements file; nothing else.

A block begins with `-- name: NAME`. `-- step: STATE EVENT` names the cell of STEPS that the
statement carries out, `-- steps:` two that it carries out at once; a test holds the literals of
the one against the other.
"""

from __future__ import annotations

import os


def load_statements(path: str) -> dict[str, str]:
    """Read the statements of the file, by name."""
    with open(path, encoding="utf-8") as file:
        blocks = file.read().split("-- name: ")[1:]
    return {name.strip(): text.strip() for name, _, text in (b.partition("\n") for b in blocks)}


def beside(module_file: str, name: str) -> str:
    """Name a file that lies beside a module."""
    return os.path.join(os.path.dirname(module_file), name)
