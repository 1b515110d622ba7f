"""brokerrun: supervised workers around a durable queue.

What stands here and in `aio`, `ext`, `sqqueue`, `watcher` and `db` is public; the rest is not.
Importing this package loads no third-party package: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.activity import (
        ActivityWaiter,
        create_activity_waiter_for_queues,
    )
    from brokerrun.core.broker import Broker
    from brokerrun.core.handle import (
        Handle,
        open_broker,
    )
    from brokerrun.core.leasing import (
        Lease,
        Leases,
    )
    from brokerrun.core.model import (
        Message,
        QueueStats,
    )
    from brokerrun.core.printers import (
        json_print_handler,
        logger_handler,
        simple_print_handler,
    )
    from brokerrun.core.queue import Queue
    from brokerrun.core.retry import (
        Backoff,
        RetryPolicy,
    )
    from brokerrun.core.settings import resolve_config
    from brokerrun.core.target import (
        BrokerTarget,
        target_for_directory,
    )
    from brokerrun.core.watcher import (
        MultiQueueWatcher,
        QueueMoveWatcher,
        QueueWatcher,
    )
    from brokerrun.errors import (
        AliasError,
        ArgumentError,
        BrokerrunError,
        ForkUnsafe,
        MessageError,
        QueueNameError,
        StoreBusy,
        StoreError,
        StoreFull,
        StoreGone,
        StoreMissing,
        StoreRefused,
        TimestampError,
        UsageError,
    )
    from brokerrun.supervisor.handlers import (
        Dead,
        Drop,
        Job,
        Retry,
        Snooze,
    )

__version__ = "0.1.0"

_HOMES = {
    "core.activity": ("ActivityWaiter", "create_activity_waiter_for_queues"),
    "core.broker": ("Broker",),
    "core.handle": ("Handle", "open_broker"),
    "core.leasing": ("Lease", "Leases"),
    "core.model": ("Message", "QueueStats"),
    "core.printers": ("json_print_handler", "logger_handler", "simple_print_handler"),
    "core.queue": ("Queue",),
    "core.retry": ("Backoff", "RetryPolicy"),
    "core.settings": ("resolve_config",),
    "core.target": ("BrokerTarget", "target_for_directory"),
    "core.watcher": ("MultiQueueWatcher", "QueueMoveWatcher", "QueueWatcher"),
    "errors": (
        "AliasError",
        "ArgumentError",
        "BrokerrunError",
        "ForkUnsafe",
        "MessageError",
        "QueueNameError",
        "StoreBusy",
        "StoreError",
        "StoreFull",
        "StoreGone",
        "StoreMissing",
        "StoreRefused",
        "TimestampError",
        "UsageError",
    ),
    "supervisor.handlers": ("Dead", "Drop", "Job", "Retry", "Snooze"),
}
__all__ = [
    "ActivityWaiter",
    "AliasError",
    "ArgumentError",
    "Backoff",
    "Broker",
    "BrokerTarget",
    "BrokerrunError",
    "Dead",
    "Drop",
    "ForkUnsafe",
    "Handle",
    "Job",
    "Lease",
    "Leases",
    "Message",
    "MessageError",
    "MultiQueueWatcher",
    "Queue",
    "QueueMoveWatcher",
    "QueueNameError",
    "QueueStats",
    "QueueWatcher",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreGone",
    "StoreMissing",
    "StoreRefused",
    "TimestampError",
    "UsageError",
    "__version__",
    "create_activity_waiter_for_queues",
    "json_print_handler",
    "logger_handler",
    "open_broker",
    "resolve_config",
    "simple_print_handler",
    "target_for_directory",
]


if not TYPE_CHECKING:  # to a type checker any name would be an object of the package

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                found = getattr(import_module(f"brokerrun.{home}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'brokerrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
