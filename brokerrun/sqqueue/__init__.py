"""SQLiteQueue: the names of the sqqueue document, over a queue and its dead-letter queue of ours.

A message is *pending* in the queue `table_name`, *processing* while a lease of some seconds lasts,
and *dead* in `<table_name>.dlq`. These are queues like any other: `broker` and workers see them,
and several SQLiteQueues with names and settings of their own share one file.

Construction raises; every operation returns a `Result` instead, and is logged under "brokerrun":
what was done at DEBUG, what failed at ERROR with its traceback, a body never. Nothing is printed
unless the program sets logging up.

Of the document's wishes these are not taken: statsd (`get_metrics` has the numbers), encryption
and authentication (the file has mode 0600: who may read it may read all), sharding. Asyncio is
`brokerrun.aio`. The file is configured by the project file and the BROKER_* variables.
"""

from __future__ import annotations

from brokerrun.sqqueue.queue import Metrics, SQLiteQueue
from brokerrun.sqqueue.result import (
    CompletionError,
    DequeueError,
    EmptyError,
    EnqueueError,
    QueueError,
    RequeueError,
    Result,
)

__all__ = [
    "CompletionError",
    "DequeueError",
    "EmptyError",
    "EnqueueError",
    "Metrics",
    "QueueError",
    "RequeueError",
    "Result",
    "SQLiteQueue",
]
