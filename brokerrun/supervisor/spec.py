"""What workers.toml means: the specs, and for each key its parser and its default, once.

Durations are seconds, paths are absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal

import msgspec

from brokerrun.core.broker import check_name
from brokerrun.core.retry import Backoff, RetryPolicy, dead_letter_of
from brokerrun.core.settings import Settings
from brokerrun.errors import QueueNameError
from brokerrun.supervisor.slotfile import MOST_IDS
from brokerrun.supervisor.units import duration, rate, shown, span

QUEUE: Final = "{queue}"  # stands for the worker's queue in the names of other queues
MAX_PROCESSES: Final = 1_000
MAX_RUNS: Final = 1_000_000
MAX_INSTANCE_NAME: Final = 64  # it becomes part of file names


class Mode(Enum):
    """Where a message stands while its handler runs."""

    PEEK = "peek"  # in its queue, leased
    MOVE = "move"  # in in_process


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """One [workers.NAME], complete.

    handler: "module:function".
    prefetch: Messages that one process may hold; None: as fast as the handler is.
    timeout: Of one message; None: however long it takes.
    dead_letter: None: a message is dropped after its last attempt.
    env: Set in the worker beside what it inherits.
    """

    name: str
    handler: str
    queue: str
    processes: int
    mode: Mode
    in_process: str
    prefetch: int | None
    max_attempts: int
    crashes: int
    backoff: Backoff
    dead_letter: str | None
    timeout: float | None
    grace: float
    boot_timeout: float
    env: dict[str, str]
    cwd: str

    @property
    def hold(self) -> str | None:
        """Name the queue that shows a message while it runs; None: its own does."""
        return self.in_process if self.mode is Mode.MOVE else None

    def policy(self) -> RetryPolicy:
        """Say what becomes of a claim of this worker."""
        return RetryPolicy(
            max_attempts=self.max_attempts,
            crashes=self.crashes,
            backoff=self.backoff,
            dead_letter=self.dead_letter,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSpec:
    """The table [brokerrun], complete.

    start: "fork", "spawn", or "auto": spawn only where forking is not safe.
    crash_limit: Deaths of one worker within seconds; at one more it backs off.
    crash_backoff: Least and most seconds of that.
    runtime_dir: Folder of the control socket, or "auto".
    control_mode: Mode bits of that socket.
    history: How long attempts and events are kept.
    """

    database: str
    name: str
    preload: tuple[str, ...]
    start: str
    crash_limit: tuple[int, float]
    crash_backoff: tuple[float, float]
    log: str
    log_level: str
    runtime_dir: str
    control_mode: int
    history: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole file without faults; *workers* in its order, *folder* is where it lies."""

    path: str
    folder: str
    instance: InstanceSpec
    workers: tuple[WorkerSpec, ...]


def named(what: str, name: str) -> str:
    """Return *name* if a queue could have it: such names are safe in paths and on command lines.

    Raises:
        ValueError: It could not.
    """
    try:
        return check_name(name)
    except QueueNameError as error:
        raise ValueError(f"{what} is named like a queue: {error}") from None


Parse = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how its value is read, and what holds without it.

    parse: Takes the value and the folder of the file; raises ValueError.
    default: As the file would write it; None: there is no fixed one.
    number: Digits that came out of "${VAR}" are a number.
    variable: This environment variable goes before the file.
    """

    parse: Parse
    default: object = None
    number: bool = False
    variable: str | None = None


def _one(parse: Callable[[object], object]) -> Parse:
    return lambda value, folder: parse(value)


def _typed(kind: Any, words: str) -> Parse:
    def parse(value: object, folder: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise ValueError(f"expected {words}, got {shown(value)}") from None

    return parse


def _whole(most: int, words: str = "") -> Parse:
    kind = Annotated[int, msgspec.Meta(ge=1, le=most)]
    return _typed(kind, f"{words}a whole number from 1 to {most}")


def _choice(*names: str) -> Parse:
    return _typed(Literal[names], f"one of {', '.join(map(repr, names))}")


def _either(word: object, meaning: object, parse: Parse) -> Parse:
    """Read *word* as *meaning*, and everything else with *parse*."""

    def read(value: object, folder: str) -> Any:
        # The type too: 0 == False.
        same = type(value) is type(word) and value == word
        return meaning if same else parse(value, folder)

    return read


_text = _typed(str, "text in quotes")
_strings = _typed(dict[str, str], "a table of texts like { NAME = 'value' }")
_count = _whole(MAX_PROCESSES, words="'cpu', 'cpu/2' or ")


def _above_zero(value: object) -> float:
    seconds = duration(value)
    if seconds == 0:
        raise ValueError(f"expected a duration above 0s, got {shown(value)}")
    return seconds


def _path(value: object, folder: str) -> str:
    path: str = _text(value, folder)
    if not path or "\0" in path:
        raise ValueError(f"expected a path, got {shown(path)}")
    return os.path.abspath(os.path.join(folder, path))


def _database(value: object, folder: str) -> str:
    text: str = _text(value, folder)
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "sqlite":
        # Only the scheme is shown: an address may hold a password.
        raise ValueError(f"expected a path, got the address of an engine {shown(scheme)}")
    return _path(rest if separator else text, folder)


def _folder(value: object, folder: str) -> str:
    path = _path(value, folder)
    if not os.path.isdir(path):
        raise ValueError(f"expected a folder that exists, got {shown(path)}")
    return path


def _queue(value: object, folder: str) -> str:
    return check_name(_text(value, folder))


def _template(value: object, folder: str) -> str:
    text: str = _text(value, folder)
    check_name(text.replace(QUEUE, "q"))
    return text


def _instance_name(value: object, folder: str) -> str:
    name: str = _text(value, folder)
    if len(name) > MAX_INSTANCE_NAME:
        raise ValueError(f"expected at most {MAX_INSTANCE_NAME} characters, got {shown(name)}")
    return named("an instance", name)


def _modules(value: object, folder: str) -> tuple[str, ...]:
    names: tuple[str, ...] = _typed(tuple[str, ...], "a list of module names")(value, folder)
    for name in names:
        if not all(map(str.isidentifier, name.split("."))):
            raise ValueError(f"expected a module name like 'app.mail', got {shown(name)}")
    return names


def _handler(value: object, folder: str) -> str:
    text: str = _text(value, folder)
    module, separator, function = text.partition(":")
    if separator and all(map(str.isidentifier, [*module.split("."), function])):
        return text
    raise ValueError(f"expected 'module:function', got {shown(text)}")


def _socket_mode(value: object, folder: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f"expected a mode like '0600', in quotes, got {shown(value)}")
    return int(value, 8)


def _processes(value: object, folder: str) -> int:
    share = re.fullmatch(r"cpu(?:/([1-9][0-9]{0,3}))?", value) if isinstance(value, str) else None
    if share is None:
        return int(_count(value, folder))
    return max(1, len(os.sched_getaffinity(0)) // int(share[1] or 1))


def _backoff(value: object) -> Backoff:
    if not isinstance(value, list):
        least, most = span(value)
        return Backoff(least=least, most=most)
    if not value:
        raise ValueError("expected at least one duration in the list, got none")
    return Backoff(steps=tuple(map(duration, value)))


def _environment(value: object, folder: str) -> dict[str, str]:
    names: dict[str, str] = _strings(value, folder)
    for name, text in names.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"expected a variable name without '=' and NUL, got {shown(name)}")
        if "\0" in text:
            raise ValueError(f"expected a value without NUL for {shown(name)}")
    return names


INSTANCE: Final[dict[str, Key]] = {
    "database": Key(_database, Settings().default_db_name, variable="BROKERRUN_DATABASE"),
    "name": Key(_instance_name, "default", variable="BROKERRUN_NAME"),
    "preload": Key(_modules, []),
    "start": Key(_choice("auto", "fork", "spawn"), "auto"),
    "crash_limit": Key(_one(rate), "5/30s"),
    "crash_backoff": Key(_one(span), "1s..1m"),
    "log": Key(_choice("auto", "pretty", "logfmt", "json"), "auto", variable="BROKERRUN_LOG"),
    "log_level": Key(
        _choice("debug", "info", "warning", "error"), "info", variable="BROKERRUN_LOG_LEVEL"
    ),
    "runtime_dir": Key(_either("auto", "auto", _path), "auto", variable="BROKERRUN_RUNTIME_DIR"),
    "control_mode": Key(_socket_mode, "0600"),
    "history": Key(_one(duration), "7d"),
}
# What [workers.NAME] may say, and [defaults] for all of them.
SHARED: Final[dict[str, Key]] = {
    "processes": Key(_processes, 1, number=True),
    "mode": Key(_typed(Mode, "'peek' or 'move'"), "peek"),
    "in_process": Key(_template, f"{QUEUE}.in-process"),
    "prefetch": Key(_either("auto", None, _whole(MOST_IDS, "'auto' or ")), "auto", number=True),
    "max_attempts": Key(_whole(MAX_RUNS), 4, number=True),
    "crashes": Key(_whole(MAX_RUNS), 2, number=True),
    "backoff": Key(_one(_backoff), "1s..10m"),
    "dead_letter": Key(_either(False, None, _template), dead_letter_of(QUEUE)),
    "timeout": Key(_either(False, None, _one(_above_zero)), False),
    "grace": Key(_one(duration), "30s"),
    "boot_timeout": Key(_one(_above_zero), "30s"),
    "cwd": Key(_folder, "."),
    "env": Key(_environment, {}),
}
# What only [workers.NAME] may say; a queue not named is called like its worker.
OWN: Final[dict[str, Key]] = {"handler": Key(_handler), "queue": Key(_queue)}
