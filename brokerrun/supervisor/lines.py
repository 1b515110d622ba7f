"""What is printed becomes lines, and lines get a form: pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from brokerrun.supervisor.wire import Prints

MOST_LINE_BYTES: Final = 32_768
Format = Callable[[bytes], bytes]


def lines_of(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut *data* into lines without their ends, and what is no whole line yet.

    A longer line than MOST_LINE_BYTES becomes several; nothing is lost, no character is cut.
    """
    *whole, rest = data.split(b"\n")
    lines = [piece for line in whole for piece in _pieces(line)]
    *full, rest = _pieces(rest)
    return lines + full, rest


def form_of(prints: Prints, stream: str) -> Format:
    """Return what makes a line of that worker's *stream* one to be written, end included."""
    if prints.form == "prefix":
        label = f"{prints.worker}.{prints.slot} | ".encode()
        return lambda line: label + line + b"\n"
    if prints.form == "json":
        return lambda line: _json(prints, stream, line)
    return lambda line: line + b"\n"


def _json(prints: Prints, stream: str, line: bytes) -> bytes:
    said = {
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "worker": prints.worker,
        "slot": prints.slot,
        "stream": stream,
        "text": line.decode(errors="backslashreplace"),
    }
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def _pieces(line: bytes) -> list[bytes]:
    pieces = []
    while len(line) > MOST_LINE_BYTES:
        end = MOST_LINE_BYTES
        while end > MOST_LINE_BYTES - 4 and line[end] & 0xC0 == 0x80:  # inside a UTF-8 character
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]
