"""Handlers: user code, found by `module:function`, and what it may say.

A handler is a plain function. Its signature chooses once what it is given:

- two positional parameters: the message's body and its id (its timestamp);
- one, named `job` or annotated `Job`: the context;
- any other single one: the body.

Returning acknowledges the message; an exception follows the worker's retry policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import import_module
from typing import Any

from brokerrun.core.ids import LONGEST_SECONDS

Function = Callable[..., object]


class Verdict(Exception):
    """What a handler decides about its message, by raising it."""


class Retry(Verdict):
    """Run the message again: after *after* seconds, or by the policy's backoff.

    It counts as an attempt; after the last one the message goes to the dead-letter queue.
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = ""):
        super().__init__(reason)
        self.after = None if after is None else seconds_of(after)


class Snooze(Verdict):
    """Put the message off for *for_* seconds; no attempt is burned."""

    def __init__(self, for_: float | timedelta, reason: str = ""):
        super().__init__(reason)
        self.for_ = seconds_of(for_)


class Dead(Verdict):
    """Send the message to the dead-letter queue now."""

    def __init__(self, reason: str = ""):
        super().__init__(reason)


class Drop(Verdict):
    """Give the message up: it is deleted, and its history says why."""

    def __init__(self, reason: str = ""):
        super().__init__(reason)


def seconds_of(delay: float | timedelta) -> float:
    """Return a delay in seconds.

    Raises:
        TypeError, ValueError: It is none, or out of bounds; raised in the handler, which fails.
    """
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"expected seconds or a timedelta, got {delay!r}")
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"expected from 0 to {LONGEST_SECONDS} seconds, got {delay!r}")
    return float(seconds)


@dataclass(frozen=True, slots=True)
class Job:
    """The message in hand, and what surrounds it.

    id: Its id, which never changes: the idempotency key.
    attempt: Which run this is, from 1.
    enqueued_at: Seconds since 1970.
    last_error: What the attempt before this one ended with.
    """

    id: int
    queue: str
    body: str
    attempt: int
    max_attempts: int
    enqueued_at: float
    last_error: str | None
    _log: Any
    _stopping: Callable[[], bool]
    _extend: Callable[[float], None]

    @property
    def log(self) -> Any:
        """A structlog logger that names the worker, the queue and the message."""
        return self._log.bind(queue=self.queue, id=self.id)

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to stop: end soon, or raise `Snooze(0)` to be run again."""
        return self._stopping()

    def extend(self, seconds: float) -> None:
        """Let the timeout of this message end *seconds* from now at the earliest."""
        self._extend(seconds)


class HandlerFault(Exception):
    """A handler that cannot be used; the text says why."""


class Form(Enum):
    """What a handler is given."""

    BODY_AND_ID = "fn(message, timestamp)"
    JOB = "fn(job)"
    BODY = "fn(message)"


CALLS: dict[Form, Callable[[Function, Job], object]] = {
    Form.BODY_AND_ID: lambda function, job: function(job.body, job.id),
    Form.JOB: lambda function, job: function(job),
    Form.BODY: lambda function, job: function(job.body),
}


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that can be called with a job."""

    function: Function
    form: Form

    def __call__(self, job: Job) -> None:
        CALLS[self.form](self.function, job)


def load_handler(path: str) -> Handler:
    """Import `module:function`.

    Whatever the import raises, SystemExit included, is a fault.

    Raises:
        HandlerFault: It cannot be imported, or is nothing that takes a message.
    """
    module_name, _, name = path.partition(":")
    try:
        found: Any = import_module(module_name)
    except BaseException as error:
        raise HandlerFault(f"cannot import module {module_name!r}: {_say(error)}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise HandlerFault(f"module {module_name!r} has no {name!r}") from None
        except BaseException as error:  # a module's own __getattr__
            raise HandlerFault(f"cannot read {path!r}: {_say(error)}") from error
    if not callable(found):
        raise HandlerFault(f"{path!r} is no function but {type(found).__name__!r}")
    return Handler(found, form_of(found))


def form_of(function: Function) -> Form:
    """Choose the form by the signature.

    Raises:
        HandlerFault: It is none of the three.
    """
    # Of an object that is called, the method counts: what nobody awaits would be acknowledged.
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise HandlerFault("is async: a handler is a plain function")
        if inspect.isgeneratorfunction(called):
            raise HandlerFault("is a generator: a handler is a plain function")
    try:
        parameters = list(_signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise HandlerFault(f"has no signature that can be read: {error}") from error
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [p for p in parameters if p not in positional and p.kind is not p.VAR_KEYWORD]
    if len(positional) in (1, 2) and all(p.default is not p.empty for p in others):
        if len(positional) == 2:
            return Form.BODY_AND_ID
        return Form.JOB if _is_job(positional[0]) else Form.BODY
    shown = ", ".join(str(p) for p in parameters)
    raise HandlerFault(f"takes ({shown}): expected (message), (message, timestamp) or (job)")


def _signature(function: Function) -> inspect.Signature:
    """Read the signature; annotations that are texts are looked up where they can be."""
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:
        return inspect.signature(function)


def _is_job(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    # Under `from __future__ import annotations` a quoted one has its quotes inside the text.
    written = isinstance(annotation, str) and annotation.strip("'\"").rpartition(".")[2] == "Job"
    return parameter.name == "job" or annotation is Job or written


def _say(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0][:300]
    except BaseException:  # a __str__ of the user's that raises
        return type(error).__name__
