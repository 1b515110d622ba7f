"""The verbs that look at whole queues."""

from __future__ import annotations

from brokerrun.cli.options import Line
from brokerrun.cli.output import DONE, EMPTY, as_json, emit
from brokerrun.core.broker import Broker, check_name
from brokerrun.core.model import QueueStats
from brokerrun.errors import QueueNameError, StoreMissing, UsageError


def list_queues(line: Line, path: str) -> int:
    """Print each queue with its counts; without --stats only where something waits."""
    if line.prefix is not None and line.pattern is not None:
        raise UsageError("--prefix and --pattern cannot be used together")
    _check_prefix(line.prefix)
    every = _all_stats(path)
    shown = [one for one in every if _wanted(line, one.queue) and (line.stats or one.pending)]
    if line.json:
        emit(as_json(_facts(one)) for one in shown)
        return DONE
    emit(_counts(one, line.stats) for one in shown)
    claimed = sum(one.claimed for one in every)
    if line.stats and claimed:
        emit(["", f"Total claimed messages: {claimed}/{sum(one.total for one in every)}"])
    return DONE


def stats(line: Line, path: str) -> int:
    """Print the counts of one queue; zeros where it holds nothing."""
    found = _stats(line, path)
    emit([as_json(_facts(found)) if line.json else _counts(found, True)])
    return DONE


def exists(line: Line, path: str) -> int:
    """Tell by the exit status whether a queue holds a row, read ones included."""
    found = _stats(line, path)
    if line.json:
        emit([as_json({"queue": found.queue, "exists": found.exists})])
    return DONE if found.exists else EMPTY


def _stats(line: Line, path: str) -> QueueStats:
    queue = check_name(line.queue or "")
    with Broker(path, create=False) as broker:
        try:
            return broker.stats(queue)
        except StoreMissing:
            return QueueStats(queue, 0, 0, 0)


def _all_stats(path: str) -> list[QueueStats]:
    with Broker(path, create=False) as broker:
        try:
            return broker.queues()
        except StoreMissing:
            return []


def _check_prefix(prefix: str | None) -> None:
    try:
        check_name(prefix or "any")
    except QueueNameError:
        raise UsageError(
            f"invalid prefix {prefix!r}: expected the beginning of a queue name; "
            "--pattern takes wildcards"
        ) from None


def _wanted(line: Line, queue: str) -> bool:
    if line.pattern is not None:
        from fnmatch import fnmatchcase

        return fnmatchcase(queue, line.pattern)
    return queue.startswith(line.prefix or "")


def _facts(found: QueueStats) -> dict[str, object]:
    return {
        "queue": found.queue,
        "pending": found.pending,
        "claimed": found.claimed,
        "total": found.total,
        "exists": found.exists,
    }


def _counts(found: QueueStats, read_too: bool) -> str:
    text = f"{found.queue}: {found.pending}"
    if read_too and found.claimed:
        text += f" ({found.total} total, {found.claimed} claimed)"
    return text
