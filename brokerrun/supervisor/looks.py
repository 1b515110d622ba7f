"""What the control socket shows of the fleet without changing it, and how it ends one message.

Each verb takes the supervisor, the request and the reply, which it may give later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar

import msgspec

from brokerrun.core.model import Selection, Settlement
from brokerrun.core.store import Store
from brokerrun.errors import BrokerrunError, UsageError
from brokerrun.supervisor.control import Reply, Request, refusal
from brokerrun.supervisor.fate import Cause
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.processes import age_of
from brokerrun.supervisor.rows import rss_of, status_up, worker_row
from brokerrun.supervisor.slot import Phase
from brokerrun.supervisor.stacks import answered, ask_stack, read_stack
from brokerrun.supervisor.status import Facts, facts

if TYPE_CHECKING:
    from brokerrun.supervisor.supervisor import Supervisor

Asked = TypeVar("Asked", bound=msgspec.Struct)


class ProcessRow(TypedDict):
    """One process of the fleet. Seconds; None where there is nothing to say."""

    process: str
    pid: int | None
    phase: str
    message: str | None
    seconds: float | None
    handled: int | None
    failed: int | None
    rss_bytes: int | None
    age: float | None
    restarts: int | None


class StackRow(TypedDict):
    """The stack of one worker; *why* there is none, where there is none."""

    process: str
    pid: int | None
    message: str | None
    seconds: float | None
    stack: str | None
    why: str | None


class _Named(msgspec.Struct):
    worker: str


def read(request: Request, kind: type[Asked]) -> Asked:
    try:
        return msgspec.convert(request, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"request {request.get('do')!r}: {error}") from error


def places_of(supervisor: Supervisor, name: str) -> list[Place]:
    """Find the places that NAME.SLOT or NAME means.

    Raises:
        UsageError: There is no such worker.
    """
    crews, places = supervisor.fleet.roster.crews, supervisor.fleet.roster.places
    if name in crews:
        return list(crews[name].places)
    found = [place for place in places if place.name == name]
    if not found:
        names = ", ".join(crews)
        raise UsageError(f"no worker {name!r}: expected one of {names}, or one with its slot")
    return found


# ----------------------------------------------------------------------------------------- status


def _status(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Answer all who ask until the keeper looks with what it sees then."""
    askers = supervisor.status_askers
    askers.append(reply)
    if len(askers) == 1:
        supervisor.keeper.ask(lambda store: _look(supervisor, store), _tell_status(supervisor))


def _look(supervisor: Supervisor, store: Store) -> tuple[list[Reply], Facts]:
    """In the keeper's thread. Who asks from here on wants a later look: a later write shows."""
    askers, supervisor.status_askers = supervisor.status_askers, []
    return askers, facts(store, supervisor.name, supervisor.instance.host)


def _tell_status(supervisor: Supervisor) -> Callable[[tuple[list[Reply], Facts]], None]:
    def tell(seen: tuple[list[Reply], Facts]) -> None:
        askers, found = seen
        status = status_up(supervisor.fleet, supervisor.instance, found, supervisor.stopping)
        for reply in askers:
            reply(status)

    return tell


# --------------------------------------------------------------------------------------------- ps


def _ps(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    fleet = supervisor.fleet
    others = [("supervisor", os.getpid()), *(("template", pid) for pid in fleet.templates.pids())]
    others += [("scribe", pid) for pid in [fleet.printing.pid] if pid]
    others += [("reloader", pid) for pid in supervisor.helpers() if pid]
    rows = [_other_row(name, pid) for name, pid in others]
    reply({"processes": rows + [_place_row(supervisor, place) for place in fleet.roster.places]})


def _other_row(name: str, pid: int) -> ProcessRow:
    return ProcessRow(
        process=name,
        pid=pid,
        phase="running",
        message=None,
        seconds=None,
        handled=None,
        failed=None,
        rss_bytes=rss_of(pid),
        age=age_of(pid),
        restarts=None,
    )


def _place_row(supervisor: Supervisor, place: Place) -> ProcessRow:
    row = worker_row(supervisor.fleet, place)
    return ProcessRow(
        process=place.name,
        pid=row["pid"],
        phase=row["state"],
        message=row["message"],
        seconds=row["seconds"],
        handled=row["handled"],
        failed=row["failed"],
        rss_bytes=row["rss_bytes"],
        age=age_of(place.pid) if place.pid else None,
        restarts=row["restarts"],
    )


# ------------------------------------------------------------------------------------------ stack


def _stack(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Ask all at once, and answer when each has written or had its time."""
    places = places_of(supervisor, read(request, _Named).worker)
    asked = [(place, *_ask(supervisor, place)) for place in places]
    waits_for = [done for _, done, _ in asked if done is not None]

    def look() -> bool:
        seen = [done() for done in waits_for]  # each, every time
        if not all(seen):
            return False
        reply({"stacks": [_stack_row(supervisor, place, fd) for place, _, fd in asked]})
        for _, _, fd in asked:
            if fd is not None:
                os.close(fd)
        return True

    supervisor.soon.append(look)


def _ask(supervisor: Supervisor, place: Place) -> tuple[Callable[[], bool] | None, int | None]:
    """Ask one worker; return when it has answered, and a descriptor of our own to read it from."""
    dump_fd = supervisor.fleet.dump_of(place)
    if dump_fd is None or not place.pid or not ask_stack(place.pid, dump_fd):
        return None, None
    fd = os.dup(dump_fd)  # the worker may end meanwhile
    return answered(fd), fd


def _stack_row(supervisor: Supervisor, place: Place, fd: int | None) -> StackRow:
    row = worker_row(supervisor.fleet, place)
    stack = read_stack(fd) if fd is not None else ""
    why = "it has no process that listens" if fd is None else "it did not answer: is it stopped?"
    return StackRow(
        process=place.name,
        pid=row["pid"],
        message=row["message"],
        seconds=row["seconds"],
        stack=stack or None,
        why=None if stack else why,
    )


# ------------------------------------------------------------------------------------------- logs


class _Logs(msgspec.Struct):
    lines: int
    follow: bool = False


def _logs(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Answer with the newest lines; to who follows, with each further one: `more` is to come."""
    asked = read(request, _Logs)
    reply({"lines": supervisor.lines.last(asked.lines), "more": asked.follow})
    if asked.follow:
        supervisor.lines.follow(lambda line: reply({"lines": [line], "more": True}))


# ------------------------------------------------------------------------------------------ holds


class _Holds(msgspec.Struct):
    what: Literal["ready", "idle", "drained"]


def _holds(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """Tell whether the fleet is ready, idle, or has nothing left to do."""
    what, fleet = read(request, _Holds).what, supervisor.fleet
    queues = fleet.roster.served()
    crews = fleet.roster.crews.values()
    ready = fleet.slots is not None and all(crew.complete for crew in crews)
    if what == "ready":
        reply({"holds": ready})
    elif what == "drained":
        supervisor.keeper.ask(lambda s: s.unfinished(queues), lambda u: reply({"holds": not u}))
    elif not ready or any(_in_hand(supervisor, place) for place in fleet.roster.places):
        reply({"holds": False})
    else:
        supervisor.keeper.ask(
            lambda store: any(map(store.ready, queues)), lambda some: reply({"holds": not some})
        )


def _in_hand(supervisor: Supervisor, place: Place) -> int | None:
    seen = supervisor.fleet.seen(place)
    return seen.message if seen is not None else None


# ----------------------------------------------------------------------------------------- cancel


class _Cancel(msgspec.Struct):
    id: int
    dead: bool = False


def _cancel(supervisor: Supervisor, request: Request, reply: Reply) -> None:
    """End the message in hand with that id, and answer when it is settled."""
    asked = read(request, _Cancel)
    place = next(
        (p for p in supervisor.fleet.roster.places if _in_hand(supervisor, p) == asked.id), None
    )
    seen = supervisor.fleet.seen(place) if place is not None else None
    if place is None or seen is None or seen.message != asked.id:
        supervisor.keeper.ask(
            lambda store: _where(store, asked.id, supervisor.database),
            lambda why: reply(refusal(BrokerrunError(why))),
        )
        return
    if place.phase not in (Phase.RUNNING, Phase.RETIRING):
        raise BrokerrunError(f"message {asked.id} is being ended already, in {place.name}")

    def then(settled: Settlement | None) -> None:
        if settled is None:
            reply(refusal(BrokerrunError(f"message {asked.id} ended by itself meanwhile")))
        else:
            reply(_cancelled_row(place, settled))

    cause = Cause.CONDEMN if asked.dead else Cause.CANCEL
    supervisor.fleet.cancel(place, seen, cause, then)


def _cancelled_row(place: Place, settled: Settlement) -> dict[str, Any]:
    return {
        "id": str(settled.id),
        "process": place.name,
        "then": settled.event.value,
        "queue": settled.queue or (settled.attempt.queue if settled.attempt else None),
        "delay": round(settled.delay, 3),
    }


def _where(store: Store, ident: int, database: str) -> str:
    """Say why a message cannot be cancelled: it is not in a handler's hand."""
    held = store.holding(ident)
    if held is not None:
        return (
            f"message {ident} of {held.queue} is claimed, but no handler of this fleet has begun it"
        )
    for stats in store.queues():
        if store.look(stats.queue, Selection(id=ident)):
            delete = f"broker -f {quote(database)} delete {quote(stats.queue)} -m {ident}"
            return f"message {ident} waits in {stats.queue}: `{delete}` deletes it"
    return f"there is no message {ident}"


Verb = Callable[["Supervisor", Request, Reply], None]
LOOKS: Final[dict[str, Verb]] = {
    "status": _status,
    "ps": _ps,
    "stack": _stack,
    "logs": _logs,
    "holds": _holds,
    "cancel": _cancel,
}
