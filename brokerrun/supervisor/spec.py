"""What workers.toml means, once it is read. `keys` says how.

Durations are seconds, paths are absolute.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from brokerrun.core.broker import check_name
from brokerrun.core.retry import Backoff, RetryPolicy
from brokerrun.errors import QueueNameError
from brokerrun.supervisor.accounts import Account
from brokerrun.supervisor.envfile import EnvFile
from brokerrun.supervisor.limits import Limits
from brokerrun.supervisor.scaling import Elastic
from brokerrun.supervisor.schedules import ScheduleSpec

INHERIT: Final = "inherit"
QUEUE: Final = "{queue}"  # stands for the worker's queue in the names of other queues


class Mode(Enum):
    """Where a message stands while its handler runs."""

    PEEK = "peek"  # in its queue, leased
    MOVE = "move"  # in in_process


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """One [workers.NAME], complete.

    handler: "module:function".
    queues: Where its messages come from: of the first that has any.
    after: Workers that are ready before it starts, and stop after it.
    in_process, dead_letter: Names of queues, with {queue} for the one that the message came from;
        dead_letter None: a message is dropped after its last attempt.
    paused: How it starts, until somebody pauses or resumes it.
    prefetch: Messages that one process may hold; None: as fast as the handler is.
    timeout: Of one message; None: however long it takes.
    env, env_file: Set in the worker beside what it inherits; env goes before env_file.
    nice, umask: None: as the supervisor's.
    max_messages, max_age, max_rss: What a process has done, or is, when it is replaced: a count,
        seconds, bytes.
    recycle_share: At most this share of the processes has a successor on its way at once.
    output: "inherit", "prefix", "json", or "file:" and a path with {worker} and {slot}.
    """

    name: str
    handler: str
    queues: tuple[str, ...]
    after: tuple[str, ...]
    processes: int | Elastic
    paused: bool
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
    env_file: EnvFile | None
    cwd: str
    user: Account | None
    group: int | None
    nice: int | None
    umask: int | None
    limits: Limits
    max_messages: int | None
    max_age: float | None
    max_rss: int | None
    recycle_share: float
    output: str

    @property
    def environment(self) -> dict[str, str]:
        """Merge what is set in the worker."""
        login = self.user.environment() if self.user else {}
        return login | (self.env_file.variables if self.env_file else {}) | self.env

    @property
    def account(self) -> Account | None:
        """Say whom it runs as; None: as we do."""
        if self.user is None or self.group is None:
            return self.user
        return self.user.with_group(self.group)

    @property
    def queue(self) -> str:
        """Show its queues in one word."""
        return ",".join(self.queues)

    def hold(self, queue: str) -> str | None:
        """Name the queue that shows a message while it runs; None: its own does."""
        return self.in_process.replace(QUEUE, queue) if self.mode is Mode.MOVE else None

    def dead_letters(self, queue: str) -> str | None:
        """Name the dead-letter queue of one of its queues; None: it has none."""
        return self.dead_letter and self.dead_letter.replace(QUEUE, queue)

    def policies(self) -> dict[str, RetryPolicy]:
        """Say what becomes of a claim from each of its queues."""
        return {
            queue: RetryPolicy(
                max_attempts=self.max_attempts,
                crashes=self.crashes,
                backoff=self.backoff,
                dead_letter=self.dead_letters(queue),
            )
            for queue in self.queues
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSpec:
    """The table [brokerrun], complete.

    start: "fork", "spawn", or "auto": spawn only where forking is not safe.
    crash_limit: Deaths of one worker within seconds; at one more it backs off.
    crash_backoff: Least and most seconds of that.
    on_crash_loop: "backoff" and no more, "pause" that worker, or "exit".
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
    on_crash_loop: str
    log: str
    log_level: str
    runtime_dir: str
    control_mode: int
    history: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole file without faults, its tables in their order; *folder* is where it lies."""

    path: str
    folder: str
    instance: InstanceSpec
    workers: tuple[WorkerSpec, ...]
    schedules: tuple[ScheduleSpec, ...] = ()

    @property
    def grace(self) -> float:
        """Return how long it takes to stop all, one after the other where they stand so."""
        return max(map(self._grace, self.workers))

    def _grace(self, spec: WorkerSpec) -> float:
        before = (self._grace(other) for other in self.workers if spec.name in other.after)
        return spec.grace + max(before, default=0.0)

    def policies(self) -> dict[str, RetryPolicy]:
        """Say what becomes of a claim from each queue that has a worker."""
        return {queue: policy for spec in self.workers for queue, policy in spec.policies().items()}


def processes_at_first(spec: WorkerSpec) -> int:
    """Return how many processes a worker starts with."""
    return spec.processes if isinstance(spec.processes, int) else spec.processes.min


def named(what: str, name: str) -> str:
    """Return *name* if a queue could have it: such names are safe in paths and on command lines.

    Raises:
        ValueError: It could not.
    """
    try:
        return check_name(name)
    except QueueNameError as error:
        raise ValueError(f"{what} is named like a queue: {error}") from None
