"""workers.toml -> Config, or every fault of the file at once, each with its line."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import tomli

from brokerrun.core.broker import check_name
from brokerrun.errors import ConfigError
from brokerrun.supervisor.accounts import Account
from brokerrun.supervisor.key_lines import At, Lines
from brokerrun.supervisor.keys import INSTANCE, OWN, SHARED, Key
from brokerrun.supervisor.schedule_keys import SCHEDULE, UNSAID, timing_fault
from brokerrun.supervisor.schedules import ScheduleSpec
from brokerrun.supervisor.spec import QUEUE, Config, InstanceSpec, WorkerSpec, named
from brokerrun.supervisor.units import shown

MAX_FILE_BYTES: Final = 1_000_000
SCOPES: Final = {"brokerrun": INSTANCE, "defaults": SHARED, "workers": OWN, "schedule": SCHEDULE}
_HOMES: Final = {
    "brokerrun": "[brokerrun]",
    "defaults": "[defaults] or [workers.NAME]",
    "workers": "[workers.NAME]",
    "schedule": "[schedule.NAME]",
}
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_FAULTY: Final = object()  # stands where a value would, so that nothing is inherited in its place


@dataclass(frozen=True, order=True, slots=True)
class Fault:
    """What is wrong with one key; line 0: with the file as a whole; key "": with no key."""

    line: int
    key: str
    reason: str

    def text(self, file: str) -> str:
        """Write `file:line: key: reason`, without what is not known."""
        place = f"{file}:{self.line}" if self.line else file
        return ": ".join(filter(None, (place, self.key, self.reason)))


@dataclass(frozen=True, slots=True)
class HandlerPlace:
    """A handler that can be imported, whatever else is wrong: from *cwd*, with *env* set.

    account: As whom; None: as we are.
    """

    worker: str
    handler: str
    cwd: str
    env: dict[str, str]
    account: Account | None = None


def handler_place(spec: WorkerSpec) -> HandlerPlace:
    """Say how the handler of a worker is imported."""
    return HandlerPlace(spec.name, spec.handler, spec.cwd, spec.environment, spec.account)


@dataclass(frozen=True)
class Reading:
    """What a file says.

    config: None where there is any fault.
    faults: By line.
    handlers, preload: What to import, also where there are faults.
    folder: Where the file lies.
    """

    folder: str
    faults: list[Fault]
    config: Config | None = None
    handlers: list[HandlerPlace] = field(default_factory=list)
    preload: tuple[str, ...] = ()
    lines: Lines = field(default_factory=lambda: Lines(""), repr=False)

    def line_of(self, worker: str, key: str) -> int:
        """Return the line of a worker's *key*, or of its table; 0: unknown."""
        return self.lines.of(("workers", worker, key))


def load(path: str) -> Config:
    """Read a file that must be right.

    Raises:
        ConfigError: It is not; all faults are in it.
    """
    reading = read(path)
    if reading.config is None:
        raise ConfigError([fault.text(path) for fault in reading.faults])
    return reading.config


def read(path: str) -> Reading:
    """Read a file and find every fault of it; the environment goes before the file.

    "${VAR}" and "${VAR:-default}" in its texts are replaced from the environment. Relative paths
    start at the folder of the file. Nothing is imported.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        text = _text(path)
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        return Reading(folder, [Fault(error.lineno, "", f"{error.msg} (column {error.colno})")])
    except (OSError, ValueError, RecursionError) as error:
        return Reading(folder, [Fault(0, "", _unreadable(error))])
    lines = Lines(text)
    reader = _Reader(document, folder)
    instance, workers = reader.instance(), reader.workers()
    schedules = reader.schedules()
    reader.cross_check(workers)
    faults = sorted(Fault(lines.of(at), dotted(at), why) for at, why in reader.faults)
    return Reading(
        folder=folder,
        faults=faults,
        config=None if faults else _config(path, folder, instance, workers, schedules),
        handlers=list(_importable(workers, folder)),
        preload=() if instance["preload"] is _FAULTY else instance["preload"],
        lines=lines,
    )


def keys() -> list[tuple[str, str]]:
    """List the table and the name of each key; what [defaults] has, [workers.NAME] has too."""
    return [(scope, key) for scope, known in SCOPES.items() for key in known]


def _text(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("is no regular file")
    with open(path, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    return content.decode("utf-8-sig")


def _unreadable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"cannot be read: {error.strerror}; run 'brokerrun init' to make one"
    if isinstance(error, UnicodeDecodeError):
        return f"cannot be read: byte {error.start} is not UTF-8"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"


class _Reader:
    """Goes through one document and notes every fault; what is faulty is _FAULTY in its results."""

    def __init__(self, document: dict[str, Any], folder: str):
        self.document = document
        self.folder = folder
        self.faults: list[tuple[At, str]] = []

    def instance(self) -> dict[str, Any]:
        """Return a value for each key of [brokerrun]."""
        for name, value in self.document.items():
            if name not in SCOPES:
                self._refuse((name,), _unknown_table(name, value))
        values = self._complete(("brokerrun",), INSTANCE)
        for name, key in INSTANCE.items():
            if key.variable and (text := os.environ.get(key.variable)):
                values[name] = self._value((key.variable,), key, text)
        return values

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return for each worker a value for each key, in the order of the file."""
        defaults = self._complete(("defaults",), SHARED)
        tables = self.document.get("workers", {})
        if not isinstance(tables, dict) or not tables:
            self._refuse(("workers",), "no worker: write [workers.NAME] and in it its handler")
            return {}
        return {name: self._worker(name, table, defaults) for name, table in tables.items()}

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Return for each schedule a value for each key, in the order of the file."""
        tables = self.document.get("schedule", {})
        if not isinstance(tables, dict):
            self._refuse(("schedule",), f"expected a table, got {shown(tables)}")
            return {}
        return {name: self._schedule(name, table) for name, table in tables.items()}

    def cross_check(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse what no worker can see alone: two on one queue, dead letters that come back."""
        takers: dict[str, str] = {}
        follows: dict[str, str] = {}
        for name, worker in workers.items():
            queues = () if worker["queues"] is _FAULTY else worker["queues"]
            for queue in queues:
                taker = takers.setdefault(queue, name)
                if taker != name:
                    key = "queue" if len(queues) == 1 else "queues"
                    whose = dotted(("workers", taker))
                    reason = f"queue {shown(queue)} is taken by {whose} already"
                    self._refuse(("workers", name, key), reason)
                elif isinstance(worker["dead_letter"], str):
                    follows[queue] = worker["dead_letter"].replace(QUEUE, queue)
        self._check_order(workers)
        for ring in _rings(follows):
            reason = f"dead letters go round and round: {' -> '.join([*ring, ring[0]])}"
            self._refuse(("workers", takers[ring[0]], "dead_letter"), reason)

    def _check_order(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse workers that wait for others that are not there, or for each other."""
        order: TopologicalSorter[str] = TopologicalSorter()
        for name, worker in workers.items():
            for other in worker["after"] if isinstance(worker["after"], tuple) else ():
                if other in workers:
                    order.add(name, other)
                else:
                    reason = f"expected one of {', '.join(workers)}, got {shown(other)}"
                    self._refuse(("workers", name, "after"), reason)
        try:
            order.prepare()
        except CycleError as error:
            ring = error.args[1]
            reason = f"workers wait for each other: {' -> '.join(reversed(ring))}"
            self._refuse(("workers", ring[0], "after"), reason)

    def _worker(self, name: str, table: object, defaults: dict[str, Any]) -> dict[str, Any]:
        at = ("workers", name)
        said = self._said(at, table, OWN | SHARED)
        queues = self._queues(at, said)
        values: dict[str, Any] = {"handler": _FAULTY, "after": (), **defaults, **said}
        values["queues"] = queues
        if values["group"] not in (None, _FAULTY) and values["user"] is None:
            self._refuse(
                (*at, "group"), "expected a user beside it: a group alone keeps root's rights"
            )
        if isinstance(table, dict) and "handler" not in table:
            self._refuse(at, "missing key 'handler': expected handler = 'module:function'")
        if isinstance(queues, tuple):
            for key in ("in_process", "dead_letter"):
                values[key] = self._other_queue((*at, key), values[key], queues)
        return values

    def _queues(self, at: At, said: dict[str, Any]) -> object:
        """Take out what a worker says of its queues: one or several, else that of its name."""
        name = self._named(at)
        one, several = said.pop("queue", None), said.pop("queues", None)
        if one and several:
            return self._refuse((*at, "queues"), "expected queue or queues, got both")
        return one or several or (name if name is _FAULTY else (name,))

    def _schedule(self, name: str, table: object) -> dict[str, Any]:
        at = ("schedule", name)
        said = self._said(at, table, SCHEDULE)
        if isinstance(table, dict) and (reason := timing_fault(table)):
            self._refuse(at, reason)
        return {**UNSAID, "queue": self._named(at, "a schedule"), **said}

    def _named(self, at: At, what: str = "a worker") -> object:
        try:
            return named(what, at[-1])
        except ValueError as error:
            return self._refuse(at, str(error))

    def _other_queue(self, at: At, template: object, queues: tuple[str, ...]) -> object:
        for queue in queues if isinstance(template, str) else ():
            try:
                name = check_name(str(template).replace(QUEUE, queue))
            except ValueError as error:
                return self._refuse(at, str(error))
            if name in queues:
                reason = f"expected another queue than the worker's own, got {shown(name)}"
                return self._refuse(at, reason)
        return template

    def _complete(self, at: At, known: Mapping[str, Key]) -> dict[str, Any]:
        defaults = {name: key.parse(key.default, self.folder) for name, key in known.items()}
        return defaults | self._said(at, self.document.get(at[0], {}), known)

    def _said(self, at: At, table: object, known: Mapping[str, Key]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._refuse(at, f"expected a table, got {shown(table)}")
            return {}
        values = {}
        for name, value in table.items():
            if name in known:
                values[name] = self._value((*at, name), known[name], value)
            elif at[0] == "workers" and isinstance(value, dict) and "handler" in value:
                reason = f'unknown table; did you mean [workers."{at[1]}.{name}"]?'
                self._refuse((*at, name), reason)
            else:
                self._refuse((*at, name), _unknown(name, known))
        return values

    def _value(self, at: At, key: Key, value: object) -> Any:
        try:
            filled = value if at[0] == key.variable else _filled(value)
            if key.number and filled != value and str(filled).isdecimal():
                filled = int(str(filled))
            return key.parse(filled, self.folder)
        except ValueError as error:
            return self._refuse(at, str(error))

    def _refuse(self, at: At, reason: str) -> object:
        self.faults.append((at, reason))
        return _FAULTY


def _filled(value: object) -> object:
    """Replace each ${VAR} in the texts of *value*."""
    if isinstance(value, list):
        return [_filled(part) for part in value]
    if isinstance(value, dict):
        return {name: _filled(part) for name, part in value.items()}
    if not isinstance(value, str) or "${" not in value:
        return value
    if "${" in _VARIABLE.sub("", value):
        raise ValueError(f"expected ${{VAR}} or ${{VAR:-default}}, got {shown(value)}")
    return _VARIABLE.sub(_variable, value)


def _variable(found: re.Match[str]) -> str:
    name, default = found.groups()
    value = os.environ.get(name)
    if value is None and default is None:
        raise ValueError(
            f"{name} is not set in the environment: set it, or write ${{{name}:-default}}"
        )
    return value or default or ""  # as the shell has it: the default also replaces an empty value


def _unknown(name: str, known: Collection[str]) -> str:
    homes: dict[str, str] = {}
    for scope, key in keys():
        homes[key] = f"{homes[key]} or {_HOMES[scope]}" if key in homes else _HOMES[scope]
    if name in homes:
        return f"unknown key here; it belongs in {homes[name]}"
    if near := _nearest(name, known):
        return f"unknown key; did you mean {near!r}?"
    if near := _nearest(name, homes):
        return f"unknown key; did you mean {near!r} in {homes[near]}?"
    return f"unknown key; known are {', '.join(known)}" if known else ""


def _unknown_table(name: str, value: object) -> str:
    tables = ", ".join(f"[{scope}]" for scope in SCOPES)
    if not isinstance(value, dict | list):
        return _unknown(name, ()) or f"unknown key; here are only tables: {tables}"
    if near := _nearest(name, SCOPES):
        return f"unknown table; did you mean [{near}]?"
    if "handler" in value:
        return f"unknown table; did you mean [workers.{name}]?"
    if "cron" in value or "every" in value:
        return f"unknown table; did you mean [schedule.{name}]?"
    return f"unknown table; known are {tables}"


def _nearest(name: str, names: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name.lower(), names, n=1, cutoff=0.7)), None)


def _rings(follows: Mapping[str, str]) -> Iterator[list[str]]:
    """Find each way that comes back to where it was."""
    seen: set[str] = set()
    for start in follows:
        trail: list[str] = []
        name = start
        while name in follows and name not in seen:
            seen.add(name)
            trail.append(name)
            name = follows[name]
        if name in trail:
            yield trail[trail.index(name) :]


def _config(
    path: str,
    folder: str,
    instance: dict[str, Any],
    workers: dict[str, dict[str, Any]],
    schedules: dict[str, dict[str, Any]],
) -> Config:
    return Config(
        path=os.path.abspath(path),
        folder=folder,
        instance=InstanceSpec(**instance),
        workers=tuple(WorkerSpec(name=name, **values) for name, values in workers.items()),
        schedules=tuple(ScheduleSpec(name=name, **values) for name, values in schedules.items()),
    )


def _importable(workers: dict[str, dict[str, Any]], folder: str) -> Iterator[HandlerPlace]:
    """What is faulty is as it would be unsaid; but nobody's code is imported as somebody else."""
    root = os.geteuid() == 0
    unsaid = {name: key.parse(key.default, folder) for name, key in SHARED.items()}
    for name, worker in workers.items():
        whose = (worker["user"], worker["group"])
        if _FAULTY not in (worker["handler"], *whose) and (root or whose == (None, None)):
            sound = {key: value for key, value in worker.items() if value is not _FAULTY}
            yield handler_place(
                WorkerSpec(name=name, **{"queues": (name,), "after": (), **unsaid, **sound})
            )


def dotted(at: At) -> str:
    """Write a path as TOML does."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in at)
