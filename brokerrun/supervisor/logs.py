"""How every process of the fleet logs: structlog, one line an event, one write a line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

_KEYS: Final = ["timestamp", "level", "event"]
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up_logs(form: str, level: str) -> None:
    """Log to standard error in *form*: pretty, logfmt, json; auto is pretty on a terminal."""
    if form == "auto":
        form = "pretty" if sys.stderr.isatty() else "logfmt"
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _renderer(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )


def log_to(fd: int) -> None:
    """Write to that descriptor from now on: standard error becomes the handlers'."""
    _Lines.fd = fd


def logger() -> Any:
    """Return the logger of brokerrun."""
    return structlog.get_logger()


def _renderer(form: str) -> Callable[..., Any]:
    if form == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if form == "pretty":
        colors = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return structlog.dev.ConsoleRenderer(colors=colors and sys.stderr.isatty())
    return _logfmt


def _logfmt(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    ordered = {key: event.pop(key) for key in _KEYS if key in event} | dict(event)
    return " ".join(f"{key}={_quoted(value)}" for key, value in ordered.items())


def _quoted(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "='):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{"".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped)}"'


class _Lines:
    """Writes each line with one write(2), so that lines of several processes do not mix.

    A reader that went away, or a full disk, stops no worker.
    """

    fd = 2

    def msg(self, line: str) -> None:
        try:
            os.write(self.fd, line.encode(errors="backslashreplace") + b"\n")
        except OSError:
            return

    debug = info = warning = warn = error = critical = exception = msg


logging.captureWarnings(False)
