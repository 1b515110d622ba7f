"""Where a snippet does otherwise than on SimpleBroker, or does not run there, and why.

What each does stands in `recorded.json`. Rows are those of `research/parity.md`.
"""

from __future__ import annotations

from typing import Final

_FIRST_PATH: Final = "row 7: SimpleBroker's watcher takes no (path, queue, handler); ours does"
_POSITIONAL: Final = "row 9: SimpleBroker's Queue takes its path by keyword only; ours both ways"
_STATS: Final = "QueueStats also tells delayed, running and oldest_at"
_EXAMPLE: Final = (
    "SimpleBroker installs no such module; its examples have it, ours is brokerrun.aio"
)
_OTHER: Final = "no document of SimpleBroker's, but of sqqueue"

DIFFERENCES: Final = {
    "thread_2_8": _FIRST_PATH,
    "context_manager_2_8": _FIRST_PATH,
    "safe_watcher_2_8": "row 8: SimpleBroker has no watch()",
    "asyncio_executor_2_8": _POSITIONAL,
    "cross_queue_2_8": "row 27: get_queue_stats() gives rows, there as here, and no mapping",
    "extensions_2_8": "row 9, and row 28: no BrokerDB to inherit from",
    "basics": _STATS,
    "embedding": _STATS,
    "safe_watcher": f"{_STATS}; SIGINT is the KeyboardInterrupt that the document says",
    "activity_waiter": "SimpleBroker has none for SQLite (None); ours has",
    "postgres_runner": "it needs simplebroker_pg: neither installs another engine",
    "async_wrapper": _EXAMPLE,
    "wrapper_beside_sync": _EXAMPLE,
    "pooled_quick_start": _EXAMPLE,
    "pooled_queue": _EXAMPLE,
    "pooled_workers": _EXAMPLE,
    "pooled_batches": _EXAMPLE,
    "pooled_priorities": _EXAMPLE,
    "pooled_errors": _EXAMPLE,
    "pooled_beside_sync": _EXAMPLE,
    "sqqueue_first": _OTHER,
    "sqqueue_operations": _OTHER,
    "sqqueue_batches": _OTHER,
    "sqqueue_maintenance": _OTHER,
}
