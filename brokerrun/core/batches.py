"""Messages in bounded batches: what a command prints with --all, or a caller iterates over.

At most `_PAGE_BYTES` of bodies and one message more are in memory. A batch whose block is left by
an exception (the pipe is closed, a signal came) goes back whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from brokerrun.core.broker import Broker
from brokerrun.core.model import Message, Selection, Settlement, Wanted
from brokerrun.core.states import Event, State
from brokerrun.errors import MessageError

_PAGE, _PAGE_BYTES = 1000, 4 * 1024 * 1024


def browse(broker: Broker, queue: str, selection: Selection) -> Iterator[list[Message]]:
    """Show the messages of a queue page by page, each as of its own moment.

    A page goes on behind the last message of the one before: none is skipped because others are
    deleted meanwhile, none comes twice.
    """
    while True:
        left = selection.limit
        page = selection._replace(
            limit=_PAGE if left is None else min(left, _PAGE), most_bytes=_PAGE_BYTES
        )
        found = broker.peek(queue, page)
        if not found:
            return
        yield found
        last = found[-1]
        selection = selection._replace(
            limit=None if left is None else left - len(found), beyond=(last.priority, last.id)
        )
        if selection.limit == 0:
            return


@contextmanager
def reading(broker: Broker, queue: str, selection: Selection) -> Iterator[list[Message]]:
    """Read a batch of up to `selection.limit` messages.

    One message is gone before the block has it: at most once, whatever kills the process. Several
    are held by this process while the block runs, and gone when it ends: at least once.
    """
    if selection.id is not None or selection.limit == 1:
        taken = broker.read(queue, selection)
        try:
            yield taken
        except BaseException:
            put_back(broker, taken)
            raise
        return
    with holding(broker, queue, selection) as held:
        yield held


def put_back(broker: Broker, messages: Sequence[Message]) -> None:
    """Bring messages that were read back to their queues, to the places that they had."""
    for message in messages:
        if not broker.store.unread(message.queue, [message.id]):
            with suppress(MessageError):  # somebody else has it: it is not lost
                broker.store.load([message])  # an automatic vacuum had dropped the row


@contextmanager
def holding(
    broker: Broker, queue: str, selection: Selection, target: str | None = None
) -> Iterator[list[Message]]:
    """Hold a batch of up to `selection.limit` messages while the block runs: at least once.

    When it ends they are read, or in *target*. A message that was attempted before comes alone. In
    a forked child nothing ends: the batch is its parent's.
    """
    process = os.getpid()
    with broker.owner() as owner:
        claims = broker.claim(
            Wanted(
                queue,
                owner,
                limit=selection.limit or _PAGE,
                after=selection.after,
                before=selection.before,
                most_bytes=_PAGE_BYTES,
            ),
            late=True,  # a power cut undoes the claim, and no more
        )
        try:
            yield [
                Message(c.id, c.body, c.queue, State.DONE, None, c.attempts - 1, c.priority)
                for c in claims
            ]
        except BaseException:
            if claims and os.getpid() == process:
                broker.store.work([Settlement(c.id, c.receipt, Event.RELEASE) for c in claims])
            raise
        if claims and os.getpid() == process:
            broker.store.finish(claims, target)


@contextmanager
def moving(
    broker: Broker, queue: str, target: str, selection: Selection
) -> Iterator[list[Message]]:
    """Move a batch of up to `selection.limit` messages: they are in *target* before the block."""
    source, to = broker.two(queue, target)
    moved = broker.move(source, to, selection._replace(most_bytes=_PAGE_BYTES))
    try:
        yield moved
    except BaseException:
        if moved:
            broker.store.unmove(source, to, [message.id for message in moved])
        raise
