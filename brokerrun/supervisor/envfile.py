"""Files of environment variables: KEY=VALUE, one a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_FILE_BYTES: Final = 1_000_000
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE: Final = re.compile(r"'([^']*)'\s*(?:#.*)?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file says.

    unreadable: Why it said nothing; empty: it was read.
    """

    path: str
    variables: dict[str, str]
    unreadable: str = ""


def read_env_file(path: str) -> EnvFile:
    """Read a file's variables; of a name that stands twice the last counts.

    Empty lines and lines that begin with # say nothing; "export " before a name is allowed. A value
    in single quotes is as it stands; in double quotes \\n, \\t, \\r are what they are in C and any
    other \\x is x; without quotes it ends before " #", and spaces around it are no part of it.
    Nothing is replaced in it: "$HOME" is five characters. A value ends with its line.

    Raises:
        ValueError: `PATH:LINE: reason`. No value is ever shown.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from None
    except OSError as error:
        return EnvFile(path, {}, f"{path}: cannot be read: {error.strerror}")
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
    return EnvFile(path, dict(_variables(path, text)))


def _variables(path: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"{path}:{number}: expected KEY=VALUE, KEY of letters, digits and _")
        name, written = found[1], found[2].strip()
        value = _value(written)
        if value is None or "\0" in value:
            reason = "a NUL" if value else "a quote that does not end, or something after it"
            raise ValueError(f"{path}:{number}: {name}: expected a value, got {reason}")
        yield name, value


def _value(written: str) -> str | None:
    if written.startswith('"'):
        double = _DOUBLE.fullmatch(written)
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), double[1]) if double else None
    if written.startswith("'"):
        single = _SINGLE.fullmatch(written)
        return single[1] if single else None
    return re.split(r"(?:^|\s)#", written, maxsplit=1)[0].rstrip()
