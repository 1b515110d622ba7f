"""brokerrun: supervised workers around a durable queue.

Importing this package loads no third-party package; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.broker import Broker
    from brokerrun.core.model import Message, QueueStats
    from brokerrun.core.queue import Queue
    from brokerrun.errors import BrokerrunError, MessageError, QueueNameError
    from brokerrun.supervisor.handlers import Dead, Drop, Job, Retry, Snooze

__version__ = "0.1.0"

_HOMES = {
    "Broker": "brokerrun.core.broker",
    "BrokerrunError": "brokerrun.errors",
    "Dead": "brokerrun.supervisor.handlers",
    "Drop": "brokerrun.supervisor.handlers",
    "Job": "brokerrun.supervisor.handlers",
    "Message": "brokerrun.core.model",
    "MessageError": "brokerrun.errors",
    "Queue": "brokerrun.core.queue",
    "QueueNameError": "brokerrun.errors",
    "QueueStats": "brokerrun.core.model",
    "Retry": "brokerrun.supervisor.handlers",
    "Snooze": "brokerrun.supervisor.handlers",
}
__all__ = [
    "Broker",
    "BrokerrunError",
    "Dead",
    "Drop",
    "Job",
    "Message",
    "MessageError",
    "Queue",
    "QueueNameError",
    "QueueStats",
    "Retry",
    "Snooze",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'brokerrun' has no attribute {name!r}")
