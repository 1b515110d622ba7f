"""Broker: the public verbs over one store. What is checked is checked here, once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from brokerrun.closing import Closing
from brokerrun.core.backends import open_store
from brokerrun.core.ids import LONGEST_SECONDS
from brokerrun.core.model import Attempt, Claim, Draft, Message, QueueStats, Selection, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.recovery import give_back
from brokerrun.core.settings import Settings
from brokerrun.errors import (
    AliasError,
    MessageError,
    QueueNameError,
    StoreMissing,
    UsageError,
    wrong_kind,
)
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.sqlrunner import SQLRunner
    from brokerrun.core.store import Store

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
MAX_NAME_LENGTH = 512
GREATEST_PRIORITY = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class Broker(Closing):
    """All queues of one store.

    Opens it at the first use; `create=False` refuses to make a new one. A broker may be used from
    several threads, and in a child that was forked: it opens its own connection there.

    A queue is given by its name, or as `@alias`; results name the queue itself.
    """

    def __init__(
        self,
        target: str | SQLRunner,
        *,
        create: bool = True,
        settings: Settings = Settings(),  # noqa: B008
        store: Store | None = None,
    ):
        self.target, self.settings = target, settings
        self.store: Store = store or open_store(target, create=create, settings=settings)

    def within(self, connection: object) -> Broker:
        """Give this broker inside a transaction of the caller's: see `Store.within`."""
        return Broker(self.target, settings=self.settings, store=self.store.within(connection))

    def resolve(self, queue: str) -> str:
        """Return the name of the queue that is meant: an alias only where it says `@`.

        Raises:
            QueueNameError: The name is outside the grammar.
            AliasError: There is no such alias.
        """
        if not queue.startswith("@"):
            return check_name(queue)
        try:
            found = self.store.alias(check_name(queue[1:]))
        except StoreMissing:
            found = None
        if found is None:
            raise AliasError(f"alias {queue!r} is not defined: `broker alias list` shows what is")
        return found

    def write(self, queue: str, body: str, *, delay: float = 0.0, priority: int = 0) -> int:
        """Store one message and return its id. It survives a power cut when this returns.

        Raises:
            QueueNameError: The name is outside the grammar.
            MessageError: The body is no text that can be encoded, or larger than 10 MB.
        """
        return self.write_many(queue, [body], delay=delay, priority=priority)[0]

    def write_many(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages in one transaction, all or none, and return their ids in order."""
        return self.write_drafts(queue, [Draft(body, delay, priority) for body in bodies])

    def write_drafts(self, queue: str, drafts: Sequence[Draft]) -> list[int]:
        """Store messages as `write_many` does, each with its own delay and priority."""
        for draft in drafts:
            check_draft(draft, self.settings.max_message_size)
        name = self.resolve(queue)
        return self.store.put_drafts(name, drafts) if drafts else []

    def broadcast(self, body: str, pattern: str | None = None) -> list[tuple[str, int]]:
        """Store a message in each queue that holds one, read ones included; return queue and id.

        Queues that only holds and burials made are passed over, unless *pattern* (as a shell
        matches file names) matches them. Aliases do not count.
        """
        check_body(body, self.settings.max_message_size)
        return self.store.broadcast(body, _chooser(pattern))

    def peek(self, queue: str, selection: Selection = Selection()) -> list[Message]:  # noqa: B008
        """Show messages and leave them: oldest first, delayed and running ones too."""
        return self.store.look(self.resolve(queue), selection)

    def read(self, queue: str, selection: Selection = Selection()) -> list[Message]:  # noqa: B008
        """Remove messages and return them, oldest first. They are gone when this returns."""
        name = self.resolve(queue)
        taken = self.store.take(name, selection)
        if not taken and give_back(self.store):
            taken = self.store.take(name, selection)
        return taken

    def move(
        self,
        queue: str,
        target: str,
        selection: Selection = Selection(),  # noqa: B008
    ) -> list[Message]:
        """Move ready messages to *target*, oldest first, and return them. Their ids stay."""
        source, to = self.two(queue, target)
        moved = self.store.move(source, to, selection)
        if not moved and give_back(self.store):
            moved = self.store.move(source, to, selection)
        return moved

    def two(self, queue: str, target: str) -> tuple[str, str]:
        """Resolve the queues that messages go from and to.

        Raises:
            UsageError: They are the same.
        """
        source, to = self.resolve(queue), self.resolve(target)
        if source == to:
            raise UsageError(f"{source!r} cannot go to itself: name another queue")
        return source, to

    def claim(self, wanted: Wanted, *, late: bool = False) -> list[Claim]:
        """Hold ready messages, as `Store.work` does; give back what the dead held, if there are
        no others."""
        wanted = wanted._replace(
            queue=self.resolve(wanted.queue),
            hold=None if wanted.hold is None else self.resolve(wanted.hold),
        )
        claims = self.store.work([], wanted, late=late)[1]
        if not claims and give_back(self.store):
            claims = self.store.work([], wanted, late=late)[1]
        return claims

    @contextmanager
    def owner(self) -> Iterator[int]:
        """Give a number for which claims are held without a time: while the block runs."""
        owner = new_guardian()
        self.store.begin_life(owner)
        try:
            yield owner
        finally:
            self.store.end_life(owner)

    def delete(self, queue: str | None, message: int | None = None) -> int:
        """Delete one message, a queue's, or (queue None) all there are; return how many.

        In any state: this is how a handler acknowledges its own message by hand.
        """
        return self.store.delete(queue if queue is None else self.resolve(queue), message)

    def rename(self, queue: str, new: str) -> bool:
        """Give a queue another name: messages, claims and aliases with it; False if it is empty.

        Raises:
            UsageError: There are messages under the new name.
        """
        return self.store.rename(*self.two(queue, new))

    def queues(self) -> list[QueueStats]:
        """Count each queue that holds a row, by name."""
        return self.store.queues()

    def stats(self, queue: str) -> QueueStats:
        """Count one queue; zeros where it holds nothing."""
        return self.store.stats(self.resolve(queue))

    def history(self, message: int) -> list[Attempt]:
        """List the attempts of a message that did not end in success, oldest first."""
        return self.store.history(message)

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self.store.close()


def check_name(name: str) -> str:
    """Return *name* if it is a queue name: letters, digits, `_`, `-`, `.`; not first `-` or `.`.

    Raises:
        ArgumentError: It is no text.
        QueueNameError: It is none.
    """
    if not isinstance(name, str):
        raise wrong_kind("queue", "a name", name)
    if len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 60 else name[:57] + "..."
    raise QueueNameError(
        f"invalid queue name {shown!r}: expected letters, digits, '_', '-' and '.', "
        f"not beginning with '-' or '.', at most {MAX_NAME_LENGTH}"
    )


def check_queue(name: str) -> str:
    """Return *name* if it is a queue name, or one of an alias, behind `@`.

    Raises:
        QueueNameError: It is neither.
    """
    check_name(name.removeprefix("@") if isinstance(name, str) else name)
    return name


def check_body(body: str, most_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Return *body* if it can be stored.

    Raises:
        MessageError: It is no text, cannot be encoded as UTF-8, or has more than *most_bytes*.
    """
    if not isinstance(body, str):
        raise MessageError(f"invalid message: expected text (str), got {type(body).__name__}")
    try:
        size = len(body) if body.isascii() else len(body.encode())
    except UnicodeEncodeError as error:
        raise MessageError(
            f"invalid message: character {error.start} is a lone surrogate, not UTF-8 text"
        ) from None
    if size > most_bytes:
        raise MessageError(f"message of {size} bytes: at most {most_bytes} are allowed")
    return body


def check_draft(draft: Draft, most_bytes: int = MAX_MESSAGE_BYTES) -> Draft:
    """Return *draft* if it can be stored.

    Raises:
        MessageError: Its body cannot.
        ArgumentError: Its delay or priority is no number.
        UsageError: One of them is out of bounds.
    """
    check_body(draft.body, most_bytes)
    if draft.delay or draft.priority:
        if not isinstance(draft.delay, int | float):
            raise wrong_kind("delay", "seconds", draft.delay)
        if not isinstance(draft.priority, int):
            raise wrong_kind("priority", "a whole number", draft.priority)
        if not 0 <= draft.delay <= LONGEST_SECONDS:
            raise UsageError(f"delay: expected 0 to {LONGEST_SECONDS} seconds, got {draft.delay}")
        if abs(draft.priority) > GREATEST_PRIORITY:
            raise UsageError(
                f"priority: expected at most {GREATEST_PRIORITY} either way, got {draft.priority}"
            )
    return draft


def _chooser(pattern: str | None) -> Callable[[str, bool], bool]:
    """Tell the queues of a broadcast, by name and whether only holds and burials made them."""
    if pattern is None:
        return lambda _name, side: not side
    from fnmatch import fnmatchcase

    return lambda name, _side: fnmatchcase(name, pattern)
