"""Watchers: a handler is called for each message of a queue, as long as the watcher runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict, TypeVar, Unpack, overload

from brokerrun.core.broker import Broker
from brokerrun.core.loop import Watcher
from brokerrun.core.meaning import bound, is_number
from brokerrun.core.queue import Queue
from brokerrun.core.rounds import ErrorHandler, Handler, Watched
from brokerrun.core.settings import settings_for
from brokerrun.core.sources import Showing, Source, Taking
from brokerrun.core.target import BrokerTarget, locate
from brokerrun.errors import ArgumentError, UsageError, wrong_kind
from brokerrun.values import Value

_COROUTINE = 0x80  # inspect.CO_COROUTINE

Place = str | PathLike[str] | BrokerTarget | None
Config = Mapping[str, object] | None
T = TypeVar("T")


class Options(TypedDict, total=False):
    """What a QueueWatcher is told by keyword, beside `db`."""

    peek: bool
    after_timestamp: int | str | None
    error_handler: ErrorHandler | None
    stop_event: threading.Event | None
    batch_processing: bool
    config: Config


class QueueWatcher(Watcher):
    """Calls `handler(message, id)` for each message of a queue.

        QueueWatcher("orders", handle, db="my.db").run_forever()

    A message is removed before the handler has it: at most once, whatever becomes of the handler.

    With *peek* each message is shown once and left there, by priority and id, delayed and running
    ones too. One whose handler raised is shown again, first within a second and then in growing
    steps up to a minute, as long as it is in the queue; the others are not held up. A handler
    acknowledges by `Queue.delete(message_id=...)`.

    `last_ts` of the queue stays current. The watcher has a connection of its own, unless the queue
    has a runner.

    Args:
        queue: A name, `@alias`, or a Queue.
        db: The database, as `db_path` of a Queue. It may come first of three, too:
            `QueueWatcher(db, queue, handler)`.
        after_timestamp: Only messages after that id; older ones stay where they are.
        stop_event: Ends the watcher when it is set, within 0.1 s.
        batch_processing: Changes nothing: messages come one by one.
        config: BROKER_* keys for this watcher alone; by default those of the Queue.

    Raises:
        ArgumentError: An argument is of a wrong kind.
        UsageError: One cannot be meant.
    """

    @overload
    def __init__(
        self,
        queue: str | Queue,
        handler: Handler,
        *,
        db: Place = None,
        **options: Unpack[Options],
    ): ...
    @overload
    def __init__(self, db: Place, queue: str, handler: Handler, /, **options: Unpack[Options]): ...
    def __init__(
        self,
        queue: Any,
        handler: Any,
        third: Any = None,
        *,
        db: Place = None,
        peek: bool = False,
        after_timestamp: int | str | None = None,
        error_handler: ErrorHandler | None = None,
        stop_event: threading.Event | None = None,
        batch_processing: bool = False,
        config: Config = None,
    ):
        if third is not None:
            if db is not None:
                raise UsageError("the database was given twice: first of three, and as db")
            db, queue, handler = queue, handler, third
        after = bound("after_timestamp", after_timestamp)
        self.queue = _queue("queue", queue, db, config)
        super().__init__(_broker(self.queue, config), stop_event=stop_event, saw=self.queue._saw)
        name = self._resolve(self.queue.name)
        source = _source(self._broker, name, peek, after)
        self._rounds.add(name, _watched(source, handler, error_handler))


class QueueMoveWatcher(Watcher):
    """Moves each message to another queue of the store, then calls `handler(message, id)`.

    The message is in the target, under its id, before the handler has it, and stays there whatever
    becomes of the handler. Several such watchers may share a queue: each message is moved once.

    Args:
        source_queue: A name, `@alias`, or a Queue.
        max_messages: The watcher ends after so many; None or 0: it goes on.

    The others are those of `QueueWatcher`.

    Raises:
        ArgumentError: An argument is of a wrong kind.
        UsageError: One cannot be meant; source and target are the same.
    """

    def __init__(
        self,
        source_queue: str | Queue,
        dest_queue: str | Queue,
        handler: Handler,
        *,
        db: Place = None,
        max_messages: int | None = None,
        error_handler: ErrorHandler | None = None,
        stop_event: threading.Event | None = None,
        config: Config = None,
    ):
        self._most = _most(max_messages)
        self.queue = _queue("source_queue", source_queue, db, config)
        super().__init__(_broker(self.queue, config), stop_event=stop_event, saw=self.queue._saw)
        destination = self._resolve(self.queue.destination(dest_queue))
        names = self._broker.two(self._resolve(self.queue.name), destination)
        self._source, self._target = names
        taking = Taking(self._broker.store, self._source, target=self._target)
        self._moving = _watched(taking, handler, error_handler)
        self._rounds.add(self._source, self._moving)

    @property
    def move_count(self) -> int:
        """How many messages were moved, the one in hand included."""
        return self._moving.given

    @property
    def source_queue(self) -> str:
        """The name of the queue that messages come from."""
        return self._source

    @property
    def dest_queue(self) -> str:
        """The name of the queue that they go to."""
        return self._target

    def _done(self) -> bool:
        return super()._done() or 0 < self._most <= self.move_count


class Counts(Value):
    """How many messages of a queue a watcher gave to a handler, by how that ended."""

    handled: int
    failed: int


class MultiQueueWatcher(Watcher):
    """Calls `handler(message, id)` for each message of several queues of a store, in one thread.

        MultiQueueWatcher(["orders", "mail"], handle, queue_handlers={"mail": send}, db="my.db")

    The queues take turns: a message waits for at most one of every other queue. With *priority*
    the first queue, in the order given, that has something is always next.

    Messages are removed or shown as by `QueueWatcher`. Queues come and go while it runs, from any
    thread.

    Args:
        queues: Names, or `@alias`.
        default_handler: For the queues that *queue_handlers* does not name.
        queue_handlers: A handler for each queue that has one of its own.
        error_handler, queue_error_handlers: The same for what handlers raise.

    The others are those of `QueueWatcher`.

    Raises:
        ArgumentError: An argument is of a wrong kind.
        UsageError: One cannot be meant; a queue has no handler, or a handler no queue.
    """

    def __init__(
        self,
        queues: Sequence[str],
        default_handler: Handler | None = None,
        *,
        queue_handlers: Mapping[str, Handler] | None = None,
        error_handler: ErrorHandler | None = None,
        queue_error_handlers: Mapping[str, ErrorHandler] | None = None,
        db: Place = None,
        peek: bool = False,
        priority: bool = False,
        stop_event: threading.Event | None = None,
        config: Config = None,
    ):
        settings = settings_for(config)
        broker = Broker(locate(db, settings), settings=settings)
        super().__init__(broker, ranked=priority, stop_event=stop_event)
        self._default_handler, self._error_handler, self._peek = (
            default_handler,
            error_handler,
            peek,
        )
        names = _names("queues", queues)
        handlers = _mapping("queue_handlers", queue_handlers, names)
        error_handlers = _mapping("queue_error_handlers", queue_error_handlers, names)
        for name in names:
            self.add_queue(name, handlers.get(name), error_handlers.get(name))

    def add_queue(
        self,
        queue: str,
        handler: Handler | None = None,
        error_handler: ErrorHandler | None = None,
    ) -> None:
        """Watch a further queue, with handlers of its own or else the default ones.

        Raises:
            ArgumentError: An argument is of a wrong kind.
            QueueNameError, AliasError: There can be no such queue.
            UsageError: It is watched already, or there is no handler for it.
        """
        name = self._resolve(queue)
        if handler is None:
            handler = self._default_handler
        if handler is None:
            raise UsageError(f"queue {name!r} has no handler: give one, or a default_handler")
        if error_handler is None:
            error_handler = self._error_handler
        source = _source(self._broker, name, self._peek, None)
        self._rounds.add(name, _watched(source, handler, error_handler))
        self._stop.wake()

    def remove_queue(self, queue: str) -> bool:
        """Watch a queue no longer; tell whether it was watched.

        A message of it that is in hand, or is being taken, is still handled.
        """
        return self._rounds.remove(self._resolve(queue))

    def list_queues(self) -> list[str]:
        """List the queues that are watched, as they were added."""
        return list(self._rounds.watched())

    def metrics(self) -> dict[str, Counts]:
        """Count what was done for each queue since it was added."""
        watched = self._rounds.watched()
        return {name: Counts(each.handled, each.failed) for name, each in watched.items()}


def _queue(what: str, queue: object, db: Place, config: Config) -> Queue:
    """Return the queue that is watched."""
    if isinstance(queue, str):
        return Queue(queue, db, config=config)
    if not isinstance(queue, Queue):
        raise wrong_kind(what, "a name or a Queue", queue)
    if db is not None and locate(db, queue.broker.settings) != queue.broker.target:
        raise UsageError(f"{queue!r} is not in the database {db}: leave db out")
    return queue


def _broker(queue: Queue, config: Config) -> Broker:
    """Return a connection of the watcher's own."""
    shared = queue.broker
    settings = shared.settings if config is None else settings_for(config)
    return Broker(shared.target, settings=settings)


def _source(broker: Broker, queue: str, peek: bool, after: int | None) -> Source:
    return (Showing if peek else Taking)(broker.store, queue, after=after)


def _watched(source: Source, handler: Handler, error_handler: ErrorHandler | None) -> Watched:
    """Put a queue together with its handlers, if they are that."""
    for what, given in (("handler", handler), ("error_handler", error_handler)):
        if given is None and what == "error_handler":
            continue
        if not callable(given):
            raise wrong_kind(what, "a function", given)
        if getattr(getattr(given, "__code__", None), "co_flags", 0) & _COROUTINE:
            raise ArgumentError(f"{what}: expected a plain function, got a coroutine function")
    return Watched(source, handler, error_handler)


def _most(given: int | None) -> int:
    if given is None:
        return 0
    if not is_number(given):
        raise wrong_kind("max_messages", "a number of messages", given)
    if given < 0:
        raise UsageError(f"max_messages: expected at least 1, got {given}")
    return given


def _names(what: str, given: object) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise wrong_kind(what, "names of queues", given)
    return list(given)


def _mapping(what: str, given: Mapping[str, T] | None, queues: list[str]) -> Mapping[str, T]:
    """Return handlers by queue, if they are that and each has its queue."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong_kind(what, "a mapping of queues to functions", given)
    strangers = [repr(name) for name in given if name not in queues]
    if strangers:
        raise UsageError(f"{what}: {', '.join(strangers)} is not among the queues")
    return given
