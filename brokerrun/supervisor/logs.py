"""How every process of the fleet logs: structlog, one line an event, one write a line."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from threading import get_ident
from typing import Any, Final

import structlog

_KEYS: Final = ["timestamp", "level", "event"]
_MOST_RECENT: Final = 1_000
_MOST_LINE: Final = 20_000
_hearers: list[Callable[[str], None]] = []
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


def in_logfmt(facts: Mapping[str, Any]) -> str:
    """Write facts as `key=value` with blanks between."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in facts.items())


def _logfmt(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    ordered = {key: event.pop(key) for key in _KEYS if key in event} | dict(event)
    return in_logfmt(ordered)


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


class RecentLines:
    """The newest lines that this process logged, and who is told of each further one.

    Made once a process: it hears from then on. Who follows is told in the thread that made it;
    what other threads log waits for `tell`.
    """

    def __init__(self, most: int = _MOST_RECENT):
        self._lines: deque[str] = deque(maxlen=most)
        self._untold: deque[str] = deque(maxlen=most)
        self._followers: list[Callable[[str], bool]] = []
        self._thread = get_ident()
        _hearers.append(self._hear)

    def last(self, count: int) -> list[str]:
        """Return up to *count*, oldest first."""
        return list(self._lines)[-count:] if count > 0 else []

    def follow(self, tell: Callable[[str], bool]) -> None:
        """Let *tell* be called with each line, until it returns False."""
        self._followers.append(tell)

    def tell(self) -> None:
        """Tell who follows what it was not yet told."""
        while self._untold:
            line = self._untold.popleft()
            self._followers = [tell for tell in self._followers if tell(line)]

    def _hear(self, line: str) -> None:
        line = line[:_MOST_LINE]
        self._lines.append(line)
        self._untold.append(line)
        if get_ident() == self._thread:
            self.tell()


class _Lines:
    """Writes each line with one write(2), so that lines of several processes do not mix.

    A reader that went away, or a full disk, stops no worker.
    """

    fd = 2

    def msg(self, line: str) -> None:
        for hear in _hearers:
            hear(line)
        try:
            os.write(self.fd, line.encode(errors="backslashreplace") + b"\n")
        except OSError:
            return

    debug = info = warning = warn = error = critical = exception = msg


logging.captureWarnings(False)
