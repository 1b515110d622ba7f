"""Ready-made handlers: print a message, print it as JSON, or log it."""

from __future__ import annotations

import json
import logging


def simple_print_handler(msg: str, ts: int) -> None:
    """Print `[id] message`, and a newline."""
    print(f"[{ts}] {msg}", flush=True)


def json_print_handler(msg: str, ts: int) -> None:
    """Print one JSON object on a line: `message` and `timestamp`."""
    print(json.dumps({"message": msg, "timestamp": ts}, ensure_ascii=False), flush=True)


def logger_handler(msg: str, ts: int) -> None:
    """Log the message and its id at INFO, under the name `brokerrun`."""
    logging.getLogger("brokerrun").info("Message %d: %s", ts, msg)
