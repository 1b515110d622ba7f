"""Watchers and ready-made handlers, under the name that the documents give their module."""

from brokerrun.core.printers import json_print_handler, logger_handler, simple_print_handler
from brokerrun.core.watcher import MultiQueueWatcher, QueueMoveWatcher, QueueWatcher

__all__ = [
    "MultiQueueWatcher",
    "QueueMoveWatcher",
    "QueueWatcher",
    "json_print_handler",
    "logger_handler",
    "simple_print_handler",
]
