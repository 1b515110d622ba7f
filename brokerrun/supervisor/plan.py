"""What a changed file, or changed code, means for a running fleet. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from brokerrun.supervisor.keys import INSTANCE, WORKER_KEYS, Cost, Key
from brokerrun.supervisor.spec import Config, WorkerSpec


class Action(Enum):
    """What becomes of a worker."""

    START = "start"
    STOP = "stop"
    ROLL = "roll"  # its processes are replaced
    LIVE = "live"  # it changes as it runs
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one worker, and why: the keys that changed, and whether its code did."""

    worker: str
    action: Action
    keys: tuple[str, ...] = ()
    code: bool = False


def changes(
    old: Config, new: Config, codes: tuple[Mapping[str, str], Mapping[str, str]], *, roll: bool
) -> list[Change]:
    """List what becomes of each worker, in the order of the new file, those that go last.

    codes: By worker, of the fleet that runs and of the new one.
    roll: Replace the processes of all.
    """
    before = {spec.name: spec for spec in old.workers}
    found = [
        _change(before[spec.name], spec, codes[0].get(spec.name) != codes[1].get(spec.name), roll)
        if spec.name in before
        else Change(spec.name, Action.START)
        for spec in new.workers
    ]
    there = {spec.name for spec in new.workers}
    return found + [Change(name, Action.STOP) for name in before if name not in there]


def fixed_keys(old: Config, new: Config) -> list[str]:
    """List the keys of [brokerrun] that changed and that only a new start can change."""
    return list(_changed(INSTANCE, old.instance, new.instance, Cost.INSTANCE))


def _change(old: WorkerSpec, new: WorkerSpec, code: bool, roll: bool) -> Change:
    costly = tuple(_changed(WORKER_KEYS, old, new, Cost.WORKER))
    live = tuple(_changed(WORKER_KEYS, old, new, Cost.LIVE))
    if costly or code or roll:
        return Change(new.name, Action.ROLL, costly + live, code)
    return Change(new.name, Action.LIVE if live else Action.SAME, live)


def _changed(keys: Mapping[str, Key], old: Any, new: Any, cost: Cost) -> Iterator[str]:
    for name, key in keys.items():
        if key.cost is cost and getattr(old, name) != getattr(new, name):
            yield name
