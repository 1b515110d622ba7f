"""The forms of read and peek: one message, many, and a generator.

`exactly_once` (the default): a message is gone before the caller has it. It is never
given twice, and lost to a caller that dies with it in hand. `at_least_once`: a generator holds a
batch (BROKER_GENERATOR_BATCH_SIZE messages) and ends it when all of it was taken; stopped in the
middle, by its `close()` too, or killed, the whole batch is ready again. What returns a list is
always committed first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator

from brokerrun.core.batches import browse, holding
from brokerrun.core.broker import Broker
from brokerrun.core.meaning import check_guarantee, one_or_all, selected
from brokerrun.core.model import Message, Selection
from brokerrun.values import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Unpack

    from brokerrun.core.meaning import (
        Each,
        Guarantee,
        Id,
        Many,
        Meant,
        No,
        One,
        Pair,
        Shown,
        Span,
        Yes,
    )


class Forms:
    """What `Queue` inherits: everything that takes or shows messages.

    Bodies are text; with `with_timestamps` they come as (body, id). Bounds are ids, nanoseconds or
    what --after takes as text, and open; ids are numbers or their text. What is ready comes by
    priority, then by id. A `message_id` or `exact_timestamp` means that one message only.

    All raise UsageError for arguments that cannot be meant together, ArgumentError for wrong kinds.
    """

    name: str
    broker: Broker

    def call(self) -> AbstractContextManager[Broker]:
        """Give the broker for one use."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- read

    @overload
    def read(
        self, *, all_messages: No = False, with_timestamps: No = False, **which: Unpack[Meant]
    ) -> str | None: ...
    @overload
    def read(
        self, *, all_messages: No = False, with_timestamps: Yes, **which: Unpack[Meant]
    ) -> Pair | None: ...
    @overload
    def read(
        self, *, all_messages: Yes, with_timestamps: No = False, **which: Unpack[Span]
    ) -> Iterator[str]: ...
    @overload
    def read(
        self, *, all_messages: Yes, with_timestamps: Yes, **which: Unpack[Span]
    ) -> Iterator[Pair]: ...
    @overload
    def read(
        self, *, all_messages: No = False, with_timestamps: bool, **which: Unpack[Meant]
    ) -> str | Pair | None: ...
    @overload
    def read(
        self, *, all_messages: bool, with_timestamps: bool = False, **which: Unpack[Span]
    ) -> str | Pair | Iterator[str] | Iterator[Pair] | None: ...
    def read(
        self,
        *,
        all_messages: bool = False,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        message_id: Id | None = None,
    ) -> Any:
        """Remove the oldest message and return it; None where nothing is ready.

        With *all_messages* an iterator over all that are, as `read_generator`.
        """
        selection = one_or_all(after_timestamp, before_timestamp, message_id, all_messages)
        if all_messages:
            return shaped(self._reads(selection), with_timestamps)
        return self._read(selection, with_timestamps)

    @overload
    def read_one(self, *, with_timestamps: No = False, **which: Unpack[One]) -> str | None: ...
    @overload
    def read_one(self, *, with_timestamps: Yes, **which: Unpack[One]) -> Pair | None: ...
    @overload
    def read_one(self, *, with_timestamps: bool, **which: Unpack[One]) -> str | Pair | None: ...
    def read_one(self, *, exact_timestamp: Id | None = None, with_timestamps: bool = False) -> Any:
        """Remove the oldest message, or the one with that id; None where it is not there."""
        return self._read(selected(ident=exact_timestamp), with_timestamps)

    @overload
    def read_many(
        self, limit: int, *, with_timestamps: No = False, **which: Unpack[Many]
    ) -> list[str]: ...
    @overload
    def read_many(
        self, limit: int, *, with_timestamps: Yes, **which: Unpack[Many]
    ) -> list[Pair]: ...
    @overload
    def read_many(
        self, limit: int, *, with_timestamps: bool, **which: Unpack[Many]
    ) -> list[str] | list[Pair]: ...
    def read_many(
        self,
        limit: int,
        *,
        with_timestamps: bool = False,
        delivery_guarantee: Guarantee = "exactly_once",
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
    ) -> Any:
        """Remove up to *limit* messages in one transaction. They are gone when this returns."""
        check_guarantee(delivery_guarantee)
        selection = selected(after_timestamp, before_timestamp, limit=limit)
        with self.call() as broker:
            return list(shaped(broker.read(self.name, selection), with_timestamps))

    @overload
    def read_generator(
        self, *, with_timestamps: No = False, **which: Unpack[Each]
    ) -> Generator[str, None, None]: ...
    @overload
    def read_generator(
        self, *, with_timestamps: Yes, **which: Unpack[Each]
    ) -> Generator[Pair, None, None]: ...
    @overload
    def read_generator(
        self, *, with_timestamps: bool, **which: Unpack[Each]
    ) -> Generator[str | Pair, None, None]: ...
    def read_generator(
        self,
        *,
        with_timestamps: bool = False,
        delivery_guarantee: Guarantee = "exactly_once",
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        exact_timestamp: Id | None = None,
    ) -> Any:
        """Remove messages one after the other until nothing is ready, by the guarantee named."""
        check_guarantee(delivery_guarantee)
        selection = selected(after_timestamp, before_timestamp, exact_timestamp, every=True)
        return shaped(self._reads(selection, delivery_guarantee), with_timestamps)

    # ---------------------------------------------------------------------------------- peek

    @overload
    def peek(
        self, *, all_messages: No = False, with_timestamps: No = False, **which: Unpack[Meant]
    ) -> str | None: ...
    @overload
    def peek(
        self, *, all_messages: No = False, with_timestamps: Yes, **which: Unpack[Meant]
    ) -> Pair | None: ...
    @overload
    def peek(
        self, *, all_messages: Yes, with_timestamps: No = False, **which: Unpack[Span]
    ) -> Iterator[str]: ...
    @overload
    def peek(
        self, *, all_messages: Yes, with_timestamps: Yes, **which: Unpack[Span]
    ) -> Iterator[Pair]: ...
    @overload
    def peek(
        self, *, all_messages: No = False, with_timestamps: bool, **which: Unpack[Meant]
    ) -> str | Pair | None: ...
    @overload
    def peek(
        self, *, all_messages: bool, with_timestamps: bool = False, **which: Unpack[Span]
    ) -> str | Pair | Iterator[str] | Iterator[Pair] | None: ...
    def peek(
        self,
        *,
        all_messages: bool = False,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        message_id: Id | None = None,
    ) -> Any:
        """Return the oldest message and leave it, delayed and running ones too.

        None where there is none. With *all_messages* an iterator, as `peek_generator`.
        """
        selection = one_or_all(after_timestamp, before_timestamp, message_id, all_messages)
        if all_messages:
            return shaped(self._peeks(selection), with_timestamps)
        return self._peek(selection, with_timestamps)

    @overload
    def peek_one(self, *, with_timestamps: No = False, **which: Unpack[One]) -> str | None: ...
    @overload
    def peek_one(self, *, with_timestamps: Yes, **which: Unpack[One]) -> Pair | None: ...
    @overload
    def peek_one(self, *, with_timestamps: bool, **which: Unpack[One]) -> str | Pair | None: ...
    def peek_one(self, *, exact_timestamp: Id | None = None, with_timestamps: bool = False) -> Any:
        """Show the oldest message, or the one with that id; None where it is not there."""
        return self._peek(selected(ident=exact_timestamp), with_timestamps)

    @overload
    def peek_many(
        self, limit: int = 1000, *, with_timestamps: No = False, **which: Unpack[Span]
    ) -> list[str]: ...
    @overload
    def peek_many(
        self, limit: int = 1000, *, with_timestamps: Yes, **which: Unpack[Span]
    ) -> list[Pair]: ...
    @overload
    def peek_many(
        self, limit: int = 1000, *, with_timestamps: bool, **which: Unpack[Span]
    ) -> list[str] | list[Pair]: ...
    def peek_many(
        self,
        limit: int = 1000,
        *,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
    ) -> Any:
        """Show up to *limit* messages, as of one moment."""
        selection = selected(after_timestamp, before_timestamp, limit=limit)
        with self.call() as broker:
            return list(shaped(broker.peek(self.name, selection), with_timestamps))

    @overload
    def peek_generator(
        self, *, with_timestamps: No = False, **which: Unpack[Shown]
    ) -> Generator[str, None, None]: ...
    @overload
    def peek_generator(
        self, *, with_timestamps: Yes, **which: Unpack[Shown]
    ) -> Generator[Pair, None, None]: ...
    @overload
    def peek_generator(
        self, *, with_timestamps: bool, **which: Unpack[Shown]
    ) -> Generator[str | Pair, None, None]: ...
    def peek_generator(
        self,
        *,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        exact_timestamp: Id | None = None,
    ) -> Any:
        """Show messages page by page: none is skipped because others go, and none comes twice."""
        selection = selected(after_timestamp, before_timestamp, exact_timestamp, every=True)
        return shaped(self._peeks(selection), with_timestamps)

    def stream_messages(
        self,
        *,
        peek: bool = False,
        all_messages: bool = True,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        batch_processing: bool = False,
        commit_interval: int = 1,
    ) -> Generator[Pair, None, None]:
        """Give (body, id) of what is there, or of the first one without *all_messages*.

        With *batch_processing* and a *commit_interval* above 1, batches of that size are held and
        ended when all of one was taken: at least once.
        """
        selection = selected(after_timestamp, before_timestamp, every=all_messages)
        size = selected(limit=commit_interval).limit
        if peek:
            messages = self._peeks(selection)
        elif batch_processing and commit_interval > 1 and all_messages:
            messages = self.batches(selection._replace(limit=size))
        else:
            messages = self._reads(selection)
        return shaped(messages, True)

    # ---------------------------------------------------------------------------- underneath

    def _read(self, selection: Selection, with_id: bool) -> Any:
        with self.call() as broker:
            return next(shaped(broker.read(self.name, selection), with_id), None)

    def _peek(self, selection: Selection, with_id: bool) -> Any:
        with self.call() as broker:
            return next(shaped(broker.peek(self.name, selection), with_id), None)

    def _reads(
        self, selection: Selection, guarantee: Guarantee = "exactly_once"
    ) -> Iterator[Message]:
        if guarantee == "at_least_once" and selection.id is None:
            return self.batches(selection._replace(limit=self.broker.settings.generator_batch_size))
        return self.one_by_one(lambda broker: broker.read(self.name, singly(selection)), selection)

    def _peeks(self, selection: Selection) -> Iterator[Message]:
        with self.call() as broker:
            for page in browse(broker, self.name, selection):
                yield from page

    def one_by_one(
        self, take: Callable[[Broker], list[Message]], selection: Selection
    ) -> Iterator[Message]:
        """Take one message a transaction; none is open while the caller has it."""
        with self.call() as broker:
            while taken := take(broker):
                yield taken[0]
                if selection.id is not None or selection.limit == 1:
                    return

    def batches(self, selection: Selection, target: str | None = None) -> Iterator[Message]:
        with self.call() as broker:
            while True:
                with holding(broker, self.name, selection, target) as batch:
                    yield from batch
                if not batch:
                    return


def shaped(messages: Iterable[Message], with_id: bool) -> Generator[Any, None, None]:
    """Give each message as the caller wants it: its body, or (body, id)."""
    if with_id:
        return ((message.body, message.id) for message in messages)
    return (message.body for message in messages)


def singly(selection: Selection) -> Selection:
    return selection if selection.id is not None else selection._replace(limit=1)
