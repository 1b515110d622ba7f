"""The verbs that store messages, from the command line or from standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, EMPTY, INTERRUPTS, OutputError, as_json, emit, watched, why
from brokerrun.cli.place import open_broker, read_place
from brokerrun.cli.values import priority_of, seconds
from brokerrun.core.broker import check_queue
from brokerrun.core.model import Draft
from brokerrun.errors import MessageError, StoreMissing, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO


def write(line: Line) -> int:
    """Store messages, all or none; print their ids where that is asked for."""
    check_queue(line.queue or "")
    settings, _ = place = read_place(line)
    drafts = _drafts(line, settings.max_message_size)
    with INTERRUPTS.held(), open_broker(place, create=True) as broker:
        ids = broker.write_drafts(line.queue or "", drafts)
    try:
        if line.json:
            emit(f'{{"id": "{ident}", "timestamp": {ident}}}' for ident in ids)
        elif line.timestamps:
            emit(map(str, ids))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"stored, but the ids could not be printed: {why(error)}") from error
    return DONE


def broadcast(line: Line) -> int:
    """Store a message in every queue that there is."""
    settings, _ = place = read_place(line)
    body = _body(line.message, settings.max_message_size)
    with INTERRUPTS.held(), open_broker(place, create=False) as broker:
        try:
            stored = broker.broadcast(body, line.pattern)
        except StoreMissing:
            stored = []
    if line.json:
        emit(
            as_json({"queue": queue, "id": str(ident), "timestamp": ident})
            for queue, ident in stored
        )
    return DONE if stored else EMPTY


def _drafts(line: Line, most_bytes: int) -> list[Draft]:
    delay, priority = seconds("--delay", line.delay, 0.0), priority_of(line.priority)
    if line.lines and line.ndjson:
        raise UsageError("--lines and --ndjson cannot be used together")
    if not line.lines and not line.ndjson:
        return [Draft(_body(line.message, most_bytes), delay, priority)]
    if line.message not in (None, "-"):
        raise UsageError(
            f"{'--lines' if line.lines else '--ndjson'} takes messages from standard input, "
            "not from the command line"
        )
    # In JSON each character of a body may take six bytes.
    longest = most_bytes if line.lines else 6 * most_bytes + 4096
    texts = _lines(_input(line.message), longest)
    if line.lines:
        return [Draft(text, delay, priority) for _, text in texts]
    from brokerrun.cli.ndjson import draft_of

    common = Draft("", delay, priority)
    return [draft_of(text, common, where, most_bytes) for where, text in texts if text.strip()]


def _lines(source: BinaryIO, longest: int) -> Iterator[tuple[str, str]]:
    """Yield each line of standard input with its place in words."""
    shown = watched()
    number = 0
    while text := source.readline(longest + 2):
        number += 1
        where = f"line {number} of standard input"
        if len(text.removesuffix(b"\n")) > longest:
            raise MessageError(f"{where} is larger than {longest} bytes: nothing was stored")
        yield where, _text(text.removesuffix(b"\n"), where)
        if shown and number % 10_000 == 0:
            print(f"\rread {number} lines", end="", file=sys.stderr, flush=True)
    if shown and number >= 10_000:
        print(f"\rread {number} lines, storing", file=sys.stderr, flush=True)


def _body(message: str | None, most_bytes: int) -> str:
    if message is not None and message != "-":
        return message
    body = _input(message).read(most_bytes + 1)
    if len(body) > most_bytes:
        raise MessageError(f"standard input is larger than {most_bytes} bytes: nothing was stored")
    return _text(body, "standard input")


def _input(message: str | None) -> BinaryIO:
    if sys.stdin is None:
        raise UsageError("standard input is closed: give the message on the command line")
    if message is None and sys.stdin.isatty():
        raise UsageError("no message: give one, pipe one in, or say '-' to type it")
    return sys.stdin.buffer


def _text(body: bytes, where: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MessageError(
            f"{where} is not UTF-8 text (byte {error.start}): nothing was stored"
        ) from None
