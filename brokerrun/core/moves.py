"""The forms of move, as `forms` has those of read: the same guarantees, and ids stay."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from brokerrun.core.forms import Forms, shaped, singly
from brokerrun.core.meaning import check_guarantee, one_or_all, selected
from brokerrun.core.model import Message, Selection
from brokerrun.values import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from typing import Any, Unpack

    from brokerrun.core.meaning import (
        Each,
        Guarantee,
        Id,
        Many,
        Meant,
        Moved,
        No,
        One,
        Pair,
        Span,
        Yes,
    )


class Moves(Forms):
    """What `Queue` inherits: everything that moves messages to another queue of its store."""

    def destination(self, target: object) -> str:
        """Name the queue that messages move to."""
        raise NotImplementedError

    @overload
    def move(
        self, destination: str | Moves, *, all_messages: No = False, **which: Unpack[Meant]
    ) -> Moved | None: ...
    @overload
    def move(
        self, destination: str | Moves, *, all_messages: Yes, **which: Unpack[Span]
    ) -> Iterator[Moved]: ...
    @overload
    def move(
        self, destination: str | Moves, *, all_messages: bool, **which: Unpack[Span]
    ) -> Moved | Iterator[Moved] | None: ...
    def move(
        self,
        destination: str | Moves,
        *,
        message_id: Id | None = None,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        all_messages: bool = False,
    ) -> Any:
        """Move the oldest ready message to *destination*; return its `message` and `timestamp`.

        None where nothing is ready. By id it brings back one that was read, too. With
        *all_messages* an iterator over all that are ready.
        """
        selection = one_or_all(after_timestamp, before_timestamp, message_id, all_messages)
        target = self.destination(destination)
        if all_messages:
            return map(_moved, self._moves(target, selection))
        with self.call() as broker:
            return next(map(_moved, broker.move(self.name, target, selection)), None)

    @overload
    def move_one(
        self,
        destination: str | Moves,
        *,
        require_unclaimed: bool = True,
        with_timestamps: No = False,
        **which: Unpack[One],
    ) -> str | None: ...
    @overload
    def move_one(
        self,
        destination: str | Moves,
        *,
        require_unclaimed: bool = True,
        with_timestamps: Yes,
        **which: Unpack[One],
    ) -> Pair | None: ...
    @overload
    def move_one(
        self,
        destination: str | Moves,
        *,
        require_unclaimed: bool = True,
        with_timestamps: bool,
        **which: Unpack[One],
    ) -> str | Pair | None: ...
    def move_one(
        self,
        destination: str | Moves,
        *,
        exact_timestamp: Id | None = None,
        require_unclaimed: bool = True,
        with_timestamps: bool = False,
    ) -> Any:
        """Move the oldest ready message, or the one with that id; None where it is not there.

        With `require_unclaimed=False` the one with that id comes back although it was read.
        """
        selection = selected(ident=exact_timestamp)
        if selection.id is not None and require_unclaimed:
            selection = Selection(after=selection.id - 1, before=selection.id + 1)
        target = self.destination(destination)
        with self.call() as broker:
            moved = broker.move(self.name, target, selection)
        return next(shaped(moved, with_timestamps), None)

    @overload
    def move_many(
        self,
        destination: str | Moves,
        limit: int,
        *,
        with_timestamps: No = False,
        **which: Unpack[Many],
    ) -> list[str]: ...
    @overload
    def move_many(
        self, destination: str | Moves, limit: int, *, with_timestamps: Yes, **which: Unpack[Many]
    ) -> list[Pair]: ...
    @overload
    def move_many(
        self, destination: str | Moves, limit: int, *, with_timestamps: bool, **which: Unpack[Many]
    ) -> list[str] | list[Pair]: ...
    def move_many(
        self,
        destination: str | Moves,
        limit: int,
        *,
        with_timestamps: bool = False,
        delivery_guarantee: Guarantee = "exactly_once",
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
    ) -> Any:
        """Move up to *limit* ready messages in one transaction."""
        check_guarantee(delivery_guarantee)
        selection = selected(after_timestamp, before_timestamp, limit=limit)
        target = self.destination(destination)
        with self.call() as broker:
            return list(shaped(broker.move(self.name, target, selection), with_timestamps))

    @overload
    def move_generator(
        self, destination: str | Moves, *, with_timestamps: No = False, **which: Unpack[Each]
    ) -> Generator[str, None, None]: ...
    @overload
    def move_generator(
        self, destination: str | Moves, *, with_timestamps: Yes, **which: Unpack[Each]
    ) -> Generator[Pair, None, None]: ...
    @overload
    def move_generator(
        self, destination: str | Moves, *, with_timestamps: bool, **which: Unpack[Each]
    ) -> Generator[str | Pair, None, None]: ...
    def move_generator(
        self,
        destination: str | Moves,
        *,
        with_timestamps: bool = False,
        delivery_guarantee: Guarantee = "exactly_once",
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        exact_timestamp: Id | None = None,
    ) -> Any:
        """Move messages one after the other until nothing is ready."""
        check_guarantee(delivery_guarantee)
        selection = selected(after_timestamp, before_timestamp, exact_timestamp, every=True)
        target = self.destination(destination)
        return shaped(self._moves(target, selection, delivery_guarantee), with_timestamps)

    def _moves(
        self, target: str, selection: Selection, guarantee: Guarantee = "exactly_once"
    ) -> Iterator[Message]:
        if guarantee == "at_least_once" and selection.id is None:
            batch = selection._replace(limit=self.broker.settings.generator_batch_size)
            return self.batches(batch, target)
        return self.one_by_one(
            lambda broker: broker.move(self.name, target, singly(selection)), selection
        )


def _moved(message: Message) -> Moved:
    return {"message": message.body, "timestamp": message.id}
