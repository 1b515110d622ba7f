"""The keys of [brokerrun], [defaults] and [workers.NAME]: for each its parser and default, once.

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
from brokerrun.core.retry import Backoff, dead_letter_of
from brokerrun.core.settings import Settings
from brokerrun.supervisor.accounts import group, user
from brokerrun.supervisor.envfile import EnvFile, read_env_file
from brokerrun.supervisor.limits import limits, niceness, umask
from brokerrun.supervisor.scaling import Elastic
from brokerrun.supervisor.slotfile import MOST_IDS
from brokerrun.supervisor.spec import INHERIT, QUEUE, Mode, WorkerSpec, named
from brokerrun.supervisor.units import duration, rate, shown, size, span

MAX_PROCESSES: Final = 1_000
MAX_RUNS: Final = 1_000_000
MAX_INSTANCE_NAME: Final = 64  # it becomes part of file names
Parse = Callable[[Any, str], Any]


class Cost(Enum):
    """What it costs to change a key while the supervisor runs."""

    LIVE = "live"  # nothing
    WORKER = "worker"  # the processes of the workers that have it are replaced
    INSTANCE = "instance"  # a new start


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how its value is read, and what holds without it.

    parse: Takes the value and the folder of the file; raises ValueError.
    default: As the file would write it; None: there is no fixed one.
    cost: What a change of it costs while a supervisor runs.
    number: Digits that came out of "${VAR}" are a number.
    variable: This environment variable goes before the file.
    """

    parse: Parse
    default: object = None
    cost: Cost = Cost.WORKER
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


def _queue(value: object, folder: str) -> tuple[str]:
    return (check_name(_text(value, folder)),)


def _queues(value: object, folder: str) -> tuple[str, ...]:
    names: tuple[str, ...] = _typed(tuple[str, ...], "a list of queues like ['urgent', 'normal']")(
        value, folder
    )
    if not names:
        raise ValueError("expected at least one queue in the list, got none")
    for name in names:
        if names.count(check_name(name)) > 1:
            raise ValueError(f"expected each queue once, got {shown(name)} twice")
    return names


def _names(value: object, folder: str) -> tuple[str, ...]:
    return tuple(_typed(tuple[str, ...], "a list of workers like ['emails']")(value, folder))


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


def _processes(value: object, folder: str) -> int | Elastic:
    if isinstance(value, dict):
        return _elastic(value)
    share = re.fullmatch(r"cpu(?:/([1-9][0-9]{0,3}))?", value) if isinstance(value, str) else None
    if share is None:
        return int(_count(value, folder))
    return max(1, len(os.sched_getaffinity(0)) // int(share[1] or 1))


def _elastic(value: dict[str, object]) -> Elastic:
    """Read { min, max, backlog, up, down }; max has to be there."""
    if unknown := sorted(set(value) - set(_ELASTIC)):
        raise ValueError(f"expected the keys {', '.join(_ELASTIC)}, got {shown(unknown[0])}")
    if "max" not in value:
        raise ValueError("expected max in a table like { min = 0, max = 8, backlog = 50 }")
    parts = {name: parse(value.get(name, default)) for name, (parse, default) in _ELASTIC.items()}
    if parts["min"] > parts["max"]:
        raise ValueError(f"expected min up to max = {parts['max']}, got {parts['min']}")
    return Elastic(**parts)


def _bounded(name: str, least: int, most: int) -> Callable[[object], int]:
    kind = Annotated[int, msgspec.Meta(ge=least, le=most)]
    parse = _typed(kind, f"{name} as a whole number from {least} to {most}")
    return lambda value: int(parse(value, ""))


_ELASTIC: Final[dict[str, tuple[Callable[[object], Any], object]]] = {
    "min": (_bounded("min", 0, MAX_PROCESSES), 1),
    "max": (_bounded("max", 1, MAX_PROCESSES), None),
    "backlog": (_bounded("backlog", 1, MAX_RUNS), 50),
    "up": (_above_zero, "5s"),
    "down": (_above_zero, "2m"),
}


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


def _env_file(value: object, folder: str) -> EnvFile:
    return read_env_file(_path(value, folder))


def _share(value: object, folder: str) -> float:
    kind = Annotated[float, msgspec.Meta(gt=0, le=1)]
    return float(_typed(kind, "a share above 0 and up to 1, like 0.25")(value, folder))


def _output(value: object, folder: str) -> str:
    text: str = _text(value, folder)
    form, separator, path = text.partition(":")
    if text in (INHERIT, "prefix", "json"):
        return text
    if form != "file" or not separator:
        raise ValueError(f"expected 'inherit', 'prefix', 'json' or 'file:PATH', got {shown(text)}")
    if set(re.findall(r"{.*?}", path)) - {"{worker}", "{slot}"} or path.endswith("/"):
        raise ValueError(f"expected a path with {{worker}} and {{slot}} at most, got {shown(path)}")
    return f"file:{_path(path, folder)}"


INSTANCE: Final[dict[str, Key]] = {
    "database": Key(
        _database, Settings().default_db_name, Cost.INSTANCE, variable="BROKERRUN_DATABASE"
    ),
    "name": Key(_instance_name, "default", Cost.INSTANCE, variable="BROKERRUN_NAME"),
    "preload": Key(_modules, []),
    "start": Key(_choice("auto", "fork", "spawn"), "auto"),
    "crash_limit": Key(_one(rate), "5/30s", Cost.LIVE),
    "crash_backoff": Key(_one(span), "1s..1m", Cost.LIVE),
    "on_crash_loop": Key(_choice("backoff", "pause", "exit"), "backoff", Cost.LIVE),
    "log": Key(
        _choice("auto", "pretty", "logfmt", "json"), "auto", Cost.INSTANCE, variable="BROKERRUN_LOG"
    ),
    "log_level": Key(
        _choice("debug", "info", "warning", "error"),
        "info",
        Cost.INSTANCE,
        variable="BROKERRUN_LOG_LEVEL",
    ),
    "runtime_dir": Key(
        _either("auto", "auto", _path), "auto", Cost.INSTANCE, variable="BROKERRUN_RUNTIME_DIR"
    ),
    "control_mode": Key(_socket_mode, "0600", Cost.INSTANCE),
    "history": Key(_one(duration), "7d", Cost.LIVE),
}
# What [workers.NAME] may say, and [defaults] for all of them.
SHARED: Final[dict[str, Key]] = {
    "processes": Key(_processes, 1, Cost.LIVE, number=True),
    "paused": Key(_typed(bool, "true or false"), False, Cost.LIVE),
    "mode": Key(_typed(Mode, "'peek' or 'move'"), "peek"),
    "in_process": Key(_template, f"{QUEUE}.in-process"),
    "prefetch": Key(_either("auto", None, _whole(MOST_IDS, "'auto' or ")), "auto", number=True),
    "max_attempts": Key(_whole(MAX_RUNS), 4, number=True),
    "crashes": Key(_whole(MAX_RUNS), 2, number=True),
    "backoff": Key(_one(_backoff), "1s..10m"),
    "dead_letter": Key(_either(False, None, _template), dead_letter_of(QUEUE)),
    "timeout": Key(_either(False, None, _one(_above_zero)), False, Cost.LIVE),
    "grace": Key(_one(duration), "30s", Cost.LIVE),
    "boot_timeout": Key(_one(_above_zero), "30s", Cost.LIVE),
    "cwd": Key(_folder, "."),
    "env": Key(_environment, {}),
    "env_file": Key(_either(False, None, _env_file), False),
    "user": Key(_either(False, None, _one(user)), False),
    "group": Key(_either(False, None, _one(group)), False),
    "nice": Key(_either(False, None, _one(niceness)), False, number=True),
    "umask": Key(_either(False, None, _one(umask)), False),
    "limits": Key(_one(limits), {}),
    "max_messages": Key(_either(False, None, _whole(MAX_RUNS)), False, number=True),
    "max_age": Key(_either(False, None, _one(_above_zero)), False),
    "max_rss": Key(_either(False, None, _one(size)), False),
    "recycle_share": Key(_share, 0.25, Cost.LIVE),
    "output": Key(_output, INHERIT),
}
# What only [workers.NAME] may say; a queue not named is called like its worker. One queue is a
# short form of a list of one.
OWN: Final[dict[str, Key]] = {
    "handler": Key(_handler),
    "queue": Key(_queue),
    "queues": Key(_queues),
    "after": Key(_names, [], Cost.LIVE),
}
# One for each field of a spec but its name.
WORKER_KEYS: Final = {name: key for name, key in (OWN | SHARED).items() if name != "queue"}


def make_of(spec: WorkerSpec) -> tuple[object, ...]:
    """Return all that a process of this worker is made of: what is not live."""
    keys = [name for name, key in WORKER_KEYS.items() if key.cost is Cost.WORKER]
    return tuple(getattr(spec, name) for name in keys)
