"""The messages between supervisor, template and workers: JSON over SOCK_SEQPACKET."""

from __future__ import annotations

import msgspec

from brokerrun.supervisor.accounts import Account
from brokerrun.supervisor.spec import WorkerSpec


class Handles(msgspec.Struct, frozen=True):
    """A worker's name and the handler that is imported for it."""

    worker: str
    handler: str


class Setup(msgspec.Struct, frozen=True):
    """Supervisor to template, once: what to import, from where, and as whom."""

    supervisor: int
    cwd: str
    path: list[str]
    preload: list[str]
    handlers: list[Handles]
    database: str
    log: str
    log_level: str
    account: Account | None = None


class Importing(msgspec.Struct, frozen=True, tag="importing"):
    """Template to supervisor: it begins with this one; should it die, this one killed it."""

    worker: str


class Imported(msgspec.Struct, frozen=True, tag="imported"):
    """Template to supervisor: all is imported; the faults by worker (preload: the empty name).

    unsafe: Why nothing may be forked from what the imports left.
    """

    faults: list[tuple[str, str]]
    unsafe: list[str]
    code: str = ""  # names the state of the modules
    traces: list[str] = []  # of what the imports raised


class Spawn(msgspec.Struct, frozen=True):
    """Supervisor to template, with descriptors: the worker's channel, its dump file, the slots, and
    what it prints into, where that is not inherited."""

    spec: WorkerSpec
    number: int
    owner: int
    place: int
    database: str


class Spawned(msgspec.Struct, frozen=True):
    """Supervisor to a worker that was not forked but started by exec: all that one would know."""

    setup: Setup
    request: Spawn
    fds: int  # how many it has, from 3 on


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """To supervisor, from the process between the forks, or the one started: this is the worker."""

    pid: int


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Worker to supervisor: ready to claim."""

    pid: int


class Prints(msgspec.Struct, frozen=True):
    """Supervisor to scribe, with two descriptors: a worker's standard output and error.

    form: prefix, json or file.
    file: Where it goes; empty: to the supervisor's own.
    """

    worker: str
    slot: int
    form: str
    file: str


class Worn(msgspec.Struct, frozen=True, tag="worn"):
    """Worker to supervisor: it has served, and wants a successor."""

    why: str


FromTemplate = Importing | Imported
FromWorker = Forked | Hello | Worn
MOST_BYTES = 1 << 20
GO = b"go"
