"""The verbs that store, take, show and move messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

from brokerrun.cli.options import Line
from brokerrun.cli.output import (
    DONE,
    EMPTY,
    INTERRUPTS,
    Interrupted,
    OutputError,
    as_line,
    emit,
    require_output,
    say,
)
from brokerrun.core.broker import MAX_MESSAGE_BYTES, Broker, check_name
from brokerrun.core.ids import now_ns, parse_bound, parse_id
from brokerrun.core.model import Message, Selection
from brokerrun.core.target import make_folder
from brokerrun.errors import MessageError, StoreMissing, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO, Final

_MOVE_BATCH: Final = 1000
_MOST_MOVED: Final = 1_000_000  # by one command, as documented


def write(line: Line, path: str) -> int:
    """Store messages, all or none; print their ids where that is asked for."""
    queue = check_name(line.queue or "")
    bodies = _bodies(line)
    make_folder(path)
    with INTERRUPTS.held(), Broker(path) as broker:
        ids = broker.write_many(queue, bodies)
    try:
        if line.json:
            emit(f'{{"id": "{ident}", "timestamp": {ident}}}' for ident in ids)
        elif line.timestamps:
            emit(map(str, ids))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"stored, but the ids could not be printed: {_why(error)}") from error
    return DONE


def read(line: Line, path: str) -> int:
    """Remove ready messages and print them; with --all one transaction each.

    Whatever stops the printing is said with the ids that it cost.
    """
    selection = _selection(line)
    queue = check_name(line.queue or "")
    with Broker(path, create=False) as broker:
        take = partial(_there, partial(broker.read, queue, selection))
        return _until_empty(line, take, gone=True)


def peek(line: Line, path: str) -> int:
    """Print messages and leave them."""
    selection = _selection(line, every=None)
    with Broker(path, create=False) as broker:
        found = _there(partial(broker.peek, line.queue or "", selection))
    emit(_lines(line, found))
    return DONE if found else EMPTY


def move(line: Line, path: str) -> int:
    """Move ready messages and print them; with --all in batches, up to a million."""
    selection = _selection(line, every=_MOVE_BATCH)
    source, target = check_name(line.queue or ""), check_name(line.target or "")
    with Broker(path, create=False) as broker:
        take = partial(_there, partial(broker.move, source, target, selection))
        return _until_empty(line, take, gone=False)


def delete(line: Line, path: str) -> int:
    """Delete a queue's messages, one of them, or all there are."""
    if line.all and line.queue is not None:
        raise UsageError("delete takes a queue or --all, not both")
    if line.queue is None and not line.all:
        raise UsageError("delete needs a queue, or --all")
    if line.id is not None and line.queue is None:
        raise UsageError("-m needs the queue of the message")
    queue = line.queue if line.queue is None else check_name(line.queue)
    message = None if line.id is None else parse_id(line.id)
    with INTERRUPTS.held(), Broker(path, create=False) as broker:
        try:
            ended = broker.delete(queue, message)
        except StoreMissing:
            ended = 0
    return EMPTY if message is not None and not ended else DONE


# ----------------------------------------------------------------------- what is written


def _bodies(line: Line) -> list[str]:
    if not line.lines:
        return [_body(line.message)]
    if line.message not in (None, "-"):
        raise UsageError("--lines takes messages from standard input, not from the command line")
    source = _input(line.message)
    read = iter(lambda: source.readline(MAX_MESSAGE_BYTES + 2), b"")
    return [
        _text(text.removesuffix(b"\n"), f"line {number} of standard input")
        for number, text in enumerate(read, 1)
    ]


def _body(message: str | None) -> str:
    if message is not None and message != "-":
        return message
    return _text(_input(message).read(MAX_MESSAGE_BYTES + 1), "standard input")


def _input(message: str | None) -> BinaryIO:
    if sys.stdin is None:
        raise UsageError("standard input is closed: give the message on the command line")
    if message is None and sys.stdin.isatty():
        raise UsageError("no message: give one, pipe one in, or say '-' to type it")
    return sys.stdin.buffer


def _text(body: bytes, what: str) -> str:
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{what} is larger than {MAX_MESSAGE_BYTES} bytes: nothing was stored")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MessageError(
            f"{what} is not UTF-8 text (byte {error.start}): nothing was stored"
        ) from None


# ----------------------------------------------------------------------- which, and how shown


def _selection(line: Line, *, every: int | None = 1) -> Selection:
    """Build the selection of a command; *every* is how many --all takes at once."""
    after = None if line.after is None else parse_bound(line.after)
    before = None if line.before is None else parse_bound(line.before)
    if line.id is None:
        return Selection(every if line.all else 1, after, before)
    if line.all or line.after is not None or line.before is not None:
        raise UsageError("-m cannot be used with --all, --after or --before")
    return Selection(id=parse_id(line.id))


def _there(look: Callable[[], list[Message]]) -> list[Message]:
    """Look where there may be no database: that is an empty one."""
    try:
        return look()
    except StoreMissing:
        return []


def _lines(line: Line, messages: list[Message]) -> Iterator[str]:
    now = now_ns()
    for message in messages:
        yield as_line(message, json=line.json, stamps=line.timestamps, now=now)


def _until_empty(line: Line, take: Callable[[], list[Message]], *, gone: bool) -> int:
    """Take and print: once, or until nothing is left; *gone*: what is taken is not kept."""
    count = 0
    while gone or count < _MOST_MOVED:
        INTERRUPTS.check()
        require_output()
        taken: list[Message] = []
        try:
            with INTERRUPTS.held():
                taken = take()
            emit(_lines(line, taken))
        except Interrupted:
            say(f"broker: interrupted{_cost(taken, gone)}")
            raise
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write to standard output: {_why(error)}{_cost(taken, gone)}"
            ) from error
        count += len(taken)
        if not taken or not line.all:
            break
    return DONE if count else EMPTY


def _cost(taken: list[Message], gone: bool) -> str:
    """Say which messages were taken and perhaps not printed, and how they come back."""
    if not taken:
        return ""
    ids = ", ".join(str(message.id) for message in taken[:5])
    more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""
    if not gone:
        return f"; moved but not printed: {ids}{more}"
    back = f"`broker move {taken[0].queue} OTHER -m {taken[0].id}`"
    return f"; read but not printed: {ids}{more}; {back} brings it back"


def _why(error: OSError) -> str:
    return error.strerror or str(error)
