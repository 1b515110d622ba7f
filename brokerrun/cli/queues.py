"""The verbs that look at whole queues."""

from __future__ import annotations

from collections.abc import Callable

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, EMPTY, INTERRUPTS, as_json, emit
from brokerrun.cli.place import open_broker, read_place
from brokerrun.core.broker import check_name, check_queue
from brokerrun.core.model import QueueStats
from brokerrun.errors import QueueNameError, StoreMissing, UsageError


def list_queues(line: Line) -> int:
    """Print each queue with its counts; without --stats only where something waits."""
    chosen = chooser(line)
    every = _all_stats(line)
    shown = [one for one in every if chosen(one.queue) and (line.stats or one.pending)]
    if line.json:
        emit(as_json(_facts(one)) for one in shown)
        return DONE
    emit(_counts(one, line.stats) for one in shown)
    claimed = sum(one.claimed for one in every)
    if line.stats and claimed:
        emit(["", f"Total claimed messages: {claimed}/{sum(one.total for one in every)}"])
    return DONE


def stats(line: Line) -> int:
    """Print the counts of one queue; zeros where it holds nothing."""
    found = _stats(line)
    emit([as_json(_facts(found)) if line.json else _counts(found, True)])
    return DONE


def exists(line: Line) -> int:
    """Tell by the exit status whether a queue holds a row, read ones included."""
    with open_broker(read_place(line), create=False) as broker:
        queue = broker.resolve(line.queue or "")
        try:
            there = broker.store.exists(queue)
        except StoreMissing:
            there = False
    if line.json:
        emit([as_json({"queue": queue, "exists": there})])
    return DONE if there else EMPTY


def rename(line: Line) -> int:
    """Give a queue another name."""
    old, new = check_queue(line.queue or ""), check_queue(line.target or "")
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        try:
            renamed = broker.rename(old, new)
        except StoreMissing:
            renamed = False
    if line.json:
        emit([as_json({"queue": new, "renamed": renamed})])
    return DONE if renamed else EMPTY


def chooser(line: Line) -> Callable[[str], bool]:
    """Tell the queues that --prefix or --pattern mean; all without them.

    Raises:
        UsageError: Both are given, or the prefix begins no queue name.
    """
    prefix, pattern = line.prefix or "", line.pattern
    if line.prefix is not None and pattern is not None:
        raise UsageError("--prefix and --pattern cannot be used together")
    try:
        check_name(prefix or "any")
    except QueueNameError:
        raise UsageError(
            f"invalid prefix {prefix!r}: expected the beginning of a queue name; "
            "--pattern takes wildcards"
        ) from None
    if pattern is None:
        return lambda queue: queue.startswith(prefix)
    from fnmatch import fnmatchcase

    return lambda queue: fnmatchcase(queue, pattern)


def _stats(line: Line) -> QueueStats:
    queue = check_queue(line.queue or "")
    with open_broker(read_place(line), create=False) as broker:
        try:
            return broker.stats(queue)
        except StoreMissing:
            return QueueStats(queue, 0, 0, 0)


def _all_stats(line: Line) -> list[QueueStats]:
    with open_broker(read_place(line), create=False) as broker:
        try:
            return broker.queues()
        except StoreMissing:
            return []


def _facts(found: QueueStats) -> dict[str, object]:
    """What --json says of a queue; delayed and running, parts of pending, only where there are."""
    facts: dict[str, object] = {
        "queue": found.queue,
        "pending": found.pending,
        "claimed": found.claimed,
        "total": found.total,
        "exists": found.exists,
    }
    parts = {"delayed": found.delayed, "running": found.running}
    return facts | {name: number for name, number in parts.items() if number}


def _counts(found: QueueStats, read_too: bool) -> str:
    text = f"{found.queue}: {found.pending}"
    if read_too and found.claimed:
        text += f" ({found.total} total, {found.claimed} claimed)"
    return text
