"""The verbs that manage aliases."""

from __future__ import annotations

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, EMPTY, INTERRUPTS, as_json, emit, say
from brokerrun.cli.place import open_broker, read_place
from brokerrun.core.broker import check_name
from brokerrun.errors import AliasError, StoreMissing, UsageError


def add(line: Line) -> int:
    """Let an alias stand for a queue."""
    name, target = check_name(line.alias or ""), check_name(line.queue or "")
    if name == target:
        raise UsageError(f"an alias cannot stand for itself: {name!r}")
    with INTERRUPTS.held(), open_broker(read_place(line), create=True) as broker:
        if not broker.store.add_alias(name, target):
            raise AliasError(f"alias {name!r} is there already: `broker alias remove {name}` first")
        shadowed = broker.stats(name).pending
    if shadowed and not line.quiet:
        say(f"broker: queue {name} holds messages: `@{name}` means {target}, `{name}` means it")
    return _said(line, name, target)


def remove(line: Line) -> int:
    """Forget an alias."""
    name = check_name(line.alias or "")
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        try:
            removed = broker.store.remove_alias(name)
        except StoreMissing:
            removed = False
    if not removed:
        raise AliasError(f"alias {name!r} is not defined: `broker alias list` shows what is")
    return _said(line, name, None)


def list_aliases(line: Line) -> int:
    """List aliases by name, all or those of one queue."""
    target = None if line.target is None else check_name(line.target)
    with open_broker(read_place(line), create=False) as broker:
        try:
            every = broker.store.aliases()
        except StoreMissing:
            every = []
    shown = [(name, queue) for name, queue in every if target in (None, queue)]
    if line.json:
        emit(as_json({"alias": name, "target": queue}) for name, queue in shown)
    else:
        emit(f"{name} -> {queue}" for name, queue in shown)
    return EMPTY if target is not None and not shown else DONE


def _said(line: Line, name: str, target: str | None) -> int:
    if line.json:
        emit([as_json({"alias": name, "target": target})])
    return DONE
