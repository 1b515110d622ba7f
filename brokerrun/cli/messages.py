"""The verbs that take, show, move and delete messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import (
    DONE,
    EMPTY,
    INTERRUPTS,
    OutputError,
    as_json,
    as_line,
    emit,
    require_output,
    say,
    watched,
    why,
)
from brokerrun.cli.place import open_broker, read_place
from brokerrun.cli.values import seconds
from brokerrun.core.batches import browse, moving, reading
from brokerrun.core.broker import check_queue
from brokerrun.core.ids import now_ns, parse_bound, parse_id
from brokerrun.core.model import Message, Selection
from brokerrun.core.recovery import LOOK_SECONDS, give_back
from brokerrun.errors import StoreMissing, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

    Batch = AbstractContextManager[list[Message]]

_MOVE_BATCH: Final = 1000
_MOST_MOVED: Final = 1_000_000  # by one command, as documented


def read(line: Line) -> int:
    """Remove ready messages and print them; with --all in batches, as the settings say."""
    place = read_place(line)
    selection = _selection(line, every=place[0].read_commit_interval)
    queue = check_queue(line.queue or "")
    patience = seconds("--wait", line.wait, 0.0)
    deadline = time.monotonic() + patience
    with open_broker(place, create=patience > 0) as broker:
        if line.all:
            with suppress(StoreMissing):  # what a killed reader held: in its order, not behind all
                give_back(broker.store)
        while True:
            count = sum(map(len, _printed(line, lambda: reading(broker, queue, selection))))
            left = deadline - time.monotonic()
            if count or left <= 0:
                return DONE if count else EMPTY
            name = broker.resolve(queue)
            broker.store.wait_until(
                lambda: broker.store.ready(name, selection),  # noqa: B023
                min(left, LOOK_SECONDS),
            )


def peek(line: Line) -> int:
    """Print messages and leave them, a page at a time."""
    selection = _selection(line, every=None)
    queue = check_queue(line.queue or "")
    count = 0
    with open_broker(read_place(line), create=False) as broker:
        try:
            for page in browse(broker, queue, selection):
                emit(lines(line, page))
                count += len(page)
        except StoreMissing:
            return EMPTY
    return DONE if count else EMPTY


def move(line: Line) -> int:
    """Move ready messages and print them; with --all in batches, up to a million."""
    selection = _selection(line, every=_MOVE_BATCH)
    source, target = check_queue(line.queue or ""), check_queue(line.target or "")
    with open_broker(read_place(line), create=False) as broker:
        try:
            source, target = broker.two(source, target)
            newest = broker.peek(target, Selection(newest=True))
        except StoreMissing:
            return EMPTY
        count, behind = 0, False
        for batch in _printed(line, lambda: moving(broker, source, target, selection)):
            count += len(batch)
            behind = behind or bool(newest and batch[0].id < newest[0].id)
            if count >= _MOST_MOVED:
                break
    if behind and not line.quiet and watched():
        say(
            f"broker: moved behind newer messages of {newest[0].queue}: "
            "who goes on there with --after a newer id does not see them"
        )
    return DONE if count else EMPTY


def delete(line: Line) -> int:
    """Delete a queue's messages, one of them, or all there are."""
    if line.all and line.queue is not None:
        raise UsageError("delete takes a queue or --all, not both")
    if line.queue is None and not line.all:
        raise UsageError("delete needs a queue, or --all")
    if line.id is not None and line.queue is None:
        raise UsageError("-m needs the queue of the message")
    queue = line.queue if line.queue is None else check_queue(line.queue)
    message = None if line.id is None else parse_id(line.id)
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        try:
            ended = broker.delete(queue, message)
        except StoreMissing:
            ended = 0
    if line.json:
        emit([as_json({"deleted": ended})])
    return EMPTY if message is not None and not ended else DONE


def _printed(line: Line, take: Callable[[], Batch]) -> Iterator[list[Message]]:
    """Print one batch, or all until nothing is left, and yield each that was printed.

    Raises:
        OutputError: It could not be printed; the batch went back.
    """
    while True:
        require_output()
        try:
            with INTERRUPTS.held(), take() as taken, INTERRUPTS.let_in():
                emit(lines(line, taken))
        except StoreMissing:
            return
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write to standard output: {why(error)}; "
                "what was not printed is where it was"
            ) from error
        if taken:
            yield taken
        if not taken or not line.all:
            return


def lines(line: Line, messages: list[Message]) -> Iterator[str]:
    """Show messages as the options ask."""
    now = now_ns()
    for message in messages:
        yield as_line(message, json=line.json, stamps=line.timestamps, now=now)


def _selection(line: Line, *, every: int | None = 1) -> Selection:
    """Build the selection of a command; *every* is how many --all takes at once."""
    after = None if line.after is None else parse_bound(line.after)
    before = None if line.before is None else parse_bound(line.before)
    one = next((f"--{name}" for name in ("wait", "newest") if getattr(line, name)), None)
    if line.newest and (line.all or line.after is not None or line.before is not None):
        raise UsageError("--newest cannot be used with --all, --after or --before")
    if line.id is None:
        return Selection(every if line.all else 1, after, before, newest=line.newest)
    if line.all or line.after is not None or line.before is not None:
        raise UsageError("-m cannot be used with --all, --after or --before")
    if one is not None:
        raise UsageError(f"-m cannot be used with {one}")
    return Selection(id=parse_id(line.id))
