"""What a service manager is told, by the protocol of sd_notify(3): nothing where none listens."""

from __future__ import annotations

import socket
import time
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from brokerrun.supervisor.place import Place
from brokerrun.supervisor.slot import Phase

STATUS_SECONDS: Final = 1.0  # between two lines of status
EXTEND_EVERY_SECONDS: Final = 2.0
EXTEND_SECONDS: Final = 10.0  # what each asks for: a loop that stands still loses its patience
_MOST_STATUS: Final = 200
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
Said = dict[str, str]  # variables and their values


@dataclass(frozen=True, slots=True)
class Facts:
    """How the supervisor is.

    now: Monotonic.
    ready: The first fleet is.
    beats: Counts what the keeper does: while it is the same, the keeper stands still.
    """

    now: float
    ready: bool
    stopping: bool
    status: str
    beats: int


class Talk:
    """Chooses what is to be said. Pure; the time is passed in.

    watchdog: Seconds within which a sign of life is awaited; None: none is.
    """

    def __init__(self, watchdog: float | None = None):
        self.watchdog = watchdog
        self._reloading = self._said_ready = self._said_stopping = False
        self._status, self._status_at = "", -STATUS_SECONDS
        self._beats, self._beat_at = -1, 0.0
        self._extend_at = 0.0

    def reloading(self, now: float) -> Said:
        """Say that a reload begins; READY comes again after `reloaded`."""
        self._reloading, self._said_ready = True, False
        return {"RELOADING": "1", "MONOTONIC_USEC": _microseconds(now)}

    def reloaded(self) -> None:
        """Note that the reload is over, whether it brought anything or not."""
        self._reloading = False

    def news(self, facts: Facts) -> Said:
        """Return what these facts have to be told by; mostly nothing."""
        said = self._state(facts)
        if facts.status != self._status and facts.now - self._status_at >= STATUS_SECONDS:
            self._status, self._status_at = facts.status, facts.now
            said["STATUS"] = facts.status
        if self._shows_life(facts):
            self._beats, self._beat_at = facts.beats, facts.now
            said["WATCHDOG"] = "1"
        return said

    def _state(self, facts: Facts) -> Said:
        if facts.stopping:
            return self._stopping(facts.now)
        if self._said_ready or self._reloading or not facts.ready:
            return {}
        self._said_ready = True
        return {"READY": "1"}

    def _stopping(self, now: float) -> Said:
        said = {} if self._said_stopping else {"STOPPING": "1"}
        if said or now >= self._extend_at:
            self._extend_at = now + EXTEND_EVERY_SECONDS
            said["EXTEND_TIMEOUT_USEC"] = _microseconds(EXTEND_SECONDS)
        self._said_stopping = True
        return said

    def _shows_life(self, facts: Facts) -> bool:
        """The loop got here, and the keeper did something since it was last said."""
        return (
            self.watchdog is not None
            and facts.now - self._beat_at >= self.watchdog / 2
            and facts.beats != self._beats
        )


class ServiceManager:
    """Takes the manager's variables out of *environ*, so that no child has them; then talks."""

    def __init__(self, environ: MutableMapping[str, str], pid: int):
        taken = {name: environ.pop(name, "") for name in _OURS}
        for name in [name for name in environ if name.startswith("LISTEN_")]:
            del environ[name]
        self._address = _address(taken["NOTIFY_SOCKET"])
        ours = taken["WATCHDOG_PID"] in ("", str(pid))
        self._talk = Talk(_watchdog(taken["WATCHDOG_USEC"]) if ours else None)
        self._unsent: Said = {}

    @property
    def listens(self) -> bool:
        return bool(self._address)

    def tell(self, facts: Facts) -> None:
        """Tell what is new."""
        self._send(self._talk.news(facts))

    def reloading(self) -> None:
        """Say that a reload begins: `systemctl reload` waits until `reloaded`, and READY."""
        self._send(self._talk.reloading(time.monotonic()))

    def reloaded(self) -> None:
        """Note that the reload is over; the next `tell` says READY."""
        self._talk.reloaded()

    def leave(self, seconds: float) -> None:
        """Say that the end comes, within so many seconds."""
        self._send({"STOPPING": "1", "EXTEND_TIMEOUT_USEC": _microseconds(seconds)})

    def _send(self, said: Said) -> None:
        """Send it as one datagram; what the manager has no room for goes with the next."""
        self._unsent |= said
        if not self._address or not self._unsent:
            return
        lines = [f"{name}={value}" for name, value in self._unsent.items()]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.setblocking(False)
            try:
                speaker.sendto("\n".join(lines).encode(), self._address)
            except BlockingIOError:
                return
            except OSError:  # it is gone: nobody waits for this
                pass
        self._unsent = {}


def describe(places: Sequence[Place], *, stopping: bool) -> str:
    """Say in one line how the fleet is."""
    if stopping:
        alive = sum(place.alive for place in places)
        return f"stopping: {alive} of {len(places)} processes finish what they have in hand"
    running = sum(place.phase is Phase.RUNNING for place in places)
    line = f"{running} of {len(places)} processes ready"
    looping = next((place for place in places if place.looping), None)
    if looping is not None:
        line += f"; {looping.name} backs off: {looping.reason}"
    return " ".join(line.split())[:_MOST_STATUS]


def _address(given: str) -> str:
    """A path, or a name of the abstract space; other kinds are not for us."""
    return "\0" + given[1:] if given.startswith("@") else given if given.startswith("/") else ""


def _watchdog(given: str) -> float | None:
    with suppress(ValueError):
        return int(given) / 1e6 or None
    return None


def _microseconds(seconds: float) -> str:
    return str(int(seconds * 1e6))
