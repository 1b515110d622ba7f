"""What the control socket is asked for, and how each is carried out. All in the loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import msgspec

from brokerrun.errors import ConfigError, UsageError
from brokerrun.supervisor.control import Reply, Request
from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.keys import MAX_PROCESSES
from brokerrun.supervisor.looks import LOOKS, Verb, read
from brokerrun.supervisor.scaling import Elastic
from brokerrun.supervisor.waits import Emptied

if TYPE_CHECKING:
    from brokerrun.supervisor.supervisor import Supervisor

_WAIT_SECONDS: Final = 120.0


class _Named(msgspec.Struct, frozen=True):
    """Workers by name, and the seconds that the answer may take."""

    names: list[str]
    timeout: float = _WAIT_SECONDS


class _Down(msgspec.Struct, frozen=True):
    now: bool = False


class _Restart(_Named, frozen=True):
    now: bool = False


class _Scale(msgspec.Struct, frozen=True):
    """By worker: "4", or "+2" and "-1". *file*: That the asker means, where it matters."""

    changes: dict[str, str]
    file: str = ""
    timeout: float = _WAIT_SECONDS


class _Reload(msgspec.Struct, frozen=True):
    file: str = ""
    dry_run: bool = False
    code: bool = False
    timeout: float = _WAIT_SECONDS


def answer(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Carry out one request.

    Raises:
        BrokerrunError: It is refused; the control socket says so.
    """
    verb = VERBS.get(str(request.get("do")))
    if verb is None:
        raise UsageError(
            f"unknown request {request.get('do')!r}: expected one of {', '.join(VERBS)}"
        )
    verb(supervisor, request, reply)


def _down(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    supervisor.stop("down")
    if read(request, _Down).now:
        supervisor.stop("down now")
    reply({"pid": os.getpid()})


def _restart(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    asked = read(request, _Restart)
    chosen = [_place(supervisor, name) for name in asked.names]
    _must_work([crew for crew, _ in chosen])
    for crew, number in chosen:
        old = [place for place in crew.places if number in (None, place.number)]
        crew.restart(number)
        if asked.now:
            supervisor.fleet.end_now(old)
    _when_complete(supervisor, [crew for crew, _ in chosen], reply, asked.timeout)


def _scale(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    asked = read(request, _Scale)
    _must_run(supervisor, asked.file)
    crews = {name: _crew(supervisor, name) for name in asked.changes}
    wanted = {name: _number(crews[name], change) for name, change in asked.changes.items()}
    for name, number in wanted.items():
        crews[name].wanted = number
        supervisor.log.info("worker_scaled", worker=name, processes=number)
    _when_complete(supervisor, list(crews.values()), reply, asked.timeout)


def _must_run(supervisor: Supervisor, file: str) -> None:
    """Refuse to change by one file what runs by another: both name this database and instance."""
    ours = os.path.realpath(supervisor.config.path)
    if file and os.path.realpath(file) != ours:
        raise ConfigError([f"{file}: the supervisor of its database and name runs {ours}"])


def _pause(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    asked = read(request, _Named)
    _turn(supervisor, _crews(supervisor, asked.names), reply, asked.timeout, paused=True)


def _resume(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    asked = read(request, _Named)
    _turn(supervisor, _crews(supervisor, asked.names), reply, asked.timeout, paused=False)


def _drain(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Pause these workers once their queues are empty; without names: end the whole run."""
    asked = read(request, _Named)
    if not asked.names:
        supervisor.drain = True
        reply({"pid": os.getpid()})
        return
    crews = _crews(supervisor, asked.names)
    _must_work(crews)
    queues = [queue for crew in crews for queue in crew.spec.queues]
    supervisor.waits.add(
        Emptied(supervisor.keeper, lambda: queues),
        lambda: _turn(supervisor, crews, reply, asked.timeout, paused=True),
        reply,
        asked.timeout,
        f"{', '.join(queues)}: not empty after {asked.timeout:g} s; nothing was paused",
    )


def _reload(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    asked = read(request, _Reload)
    _must_run(supervisor, asked.file)
    supervisor.reload(reply, dry=asked.dry_run, roll=asked.code, within=asked.timeout)


VERBS: Final[dict[str, Verb]] = {
    "down": _down,
    **LOOKS,
    "restart": _restart,
    "scale": _scale,
    "pause": _pause,
    "resume": _resume,
    "drain": _drain,
    "reload": _reload,
}


def _turn(
    supervisor: Supervisor, crews: Sequence[Crew], reply: Reply, within: float, *, paused: bool
) -> None:
    """Pause or resume, and answer when that is stored and done."""
    supervisor.pauses.set(
        crews, paused=paused, then=lambda: _when_complete(supervisor, crews, reply, within)
    )


def _when_complete(
    supervisor: Supervisor, crews: Sequence[Crew], reply: Reply, within: float
) -> None:
    """Answer once these workers are what they shall be."""
    names = ", ".join(crew.spec.name for crew in crews)
    supervisor.waits.add(
        lambda: all(crew.complete for crew in crews),
        lambda: reply({"workers": {crew.spec.name: _set(crew) for crew in crews}}),
        reply,
        within,
        f"{names}: not done after {within:g} s; it goes on",
    )


def _set(crew: Crew) -> dict[str, Any]:
    """Say how a worker is set: how many processes, and whether it is paused."""
    return {"processes": crew.wanted, "paused": crew.paused}


def _crews(supervisor: Supervisor, names: Sequence[str]) -> list[Crew]:
    return [_crew(supervisor, name) for name in names]


def _crew(supervisor: Supervisor, name: str) -> Crew:
    crews = supervisor.fleet.roster.crews
    if name in crews and not crews[name].gone:
        return crews[name]
    near = get_close_matches(name, crews, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(crews)}"
    raise UsageError(f"no worker {name!r}{hint}")


def _place(supervisor: Supervisor, name: str) -> tuple[Crew, int | None]:
    """Read NAME or NAME.SLOT."""
    worker, _, number = name.rpartition(".")
    if name in supervisor.fleet.roster.crews or not number.isdecimal():
        return _crew(supervisor, name), None
    crew = _crew(supervisor, worker)
    if not any(place.number == int(number) for place in crew.places):
        raise UsageError(f"{worker} has no process {number}: it has {crew.wanted}")
    return crew, int(number)


def _must_work(crews: Sequence[Crew]) -> None:
    for crew in crews:
        if crew.paused:
            raise UsageError(f"{crew.spec.name} is paused: resume it first")


def _number(crew: Crew, change: str) -> int:
    """Return how many processes "4", "+2" or "-1" makes."""
    name, relative = crew.spec.name, change[:1] in ("+", "-")
    digits = change[1:] if relative else change
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 7):
        raise UsageError(f"{name}: expected a number like 4, +2 or -1, got {change!r}")
    wanted = crew.wanted + int(change) if relative else int(digits)
    rule = crew.spec.processes
    least, most = (rule.min, rule.max) if isinstance(rule, Elastic) else (0, MAX_PROCESSES)
    if not least <= wanted <= most:
        raise UsageError(f"{name}: expected {least} to {most} processes, got {wanted}")
    return wanted
