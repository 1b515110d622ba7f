"""The scribe: a process of its own that copies what handlers and their subprocesses print.

It is neither the supervisor, which may be stopped, nor a thread of a worker, which a C call starves
and a fork loses. It ignores TERM, and outlives its supervisor until it has copied what is left.
What it owes when it is killed: the lines that it has read and not yet written. The supervisor
holds the read ends too, so that no handler meets a broken pipe, and starts another one.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from typing import Final

import msgspec
from setproctitle import setproctitle

from brokerrun.supervisor import wire
from brokerrun.supervisor.lines import Format, form_of, lines_of
from brokerrun.supervisor.sinks import LogFile, Sink, Stream

_READ_BYTES: Final = 65536
_PARTING_SECONDS: Final = 1.0  # for what a handler left running and still prints
_STREAMS: Final = {1: "stdout", 2: "stderr"}


class Source:
    """One stream of one process of a worker."""

    def __init__(self, fd: int, sink: Sink, form: Format):
        self.fd, self.sink, self._form = fd, sink, form
        self._rest = b""
        self._dropped = 0

    def fileno(self) -> int:
        return self.fd

    def read(self) -> bool:
        """Copy what is there; False at the end, when the last line is copied too."""
        data = os.read(self.fd, _READ_BYTES)
        lines, self._rest = lines_of(self._rest + data)
        if not data and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        if lines:
            self._put(lines)
        return bool(data)

    def _put(self, lines: list[bytes]) -> None:
        told = [b"[%d lines dropped: nobody took them]" % self._dropped] if self._dropped else []
        lost = self.sink.put([self._form(line) for line in told + lines])
        # Where not even that was taken, they add up.
        self._dropped = self._dropped + len(lines) if lost > len(lines) else lost


class Scribe:
    """Copies until its supervisor is gone and nobody prints any more."""

    def __init__(self, link: socket.socket):
        self._link = link
        self._selector = selectors.DefaultSelector()
        self._selector.register(link, selectors.EVENT_READ)
        self._sources: set[Source] = set()
        self._streams: dict[int, Sink] = {fd: Stream(fd) for fd in _STREAMS}
        self._files: dict[str, LogFile] = {}
        self._deadline: float | None = None  # once the supervisor is gone

    def run(self) -> None:
        """Copy."""
        while self._deadline is None or (self._sources and time.monotonic() < self._deadline):
            left = None if self._deadline is None else self._deadline - time.monotonic()
            for key, _ in self._selector.select(left):
                if isinstance(key.fileobj, Source):
                    self._copy(key.fileobj)
                else:
                    self._listen()

    def _listen(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._link, wire.MOST_BYTES, len(_STREAMS))
        if not data:
            self._selector.unregister(self._link)
            self._deadline = time.monotonic() + _PARTING_SECONDS
            return
        prints = msgspec.json.decode(data, type=wire.Prints)
        for (number, stream), fd in zip(_STREAMS.items(), fds, strict=True):
            sink = self._file(prints.file) if prints.file else self._streams[number]
            source = Source(fd, sink, form_of(prints, stream))
            self._sources.add(source)
            self._selector.register(source, selectors.EVENT_READ)

    def _file(self, path: str) -> LogFile:
        return self._files.setdefault(path, LogFile(path))

    def _copy(self, source: Source) -> None:
        if source.read():
            return
        self._selector.unregister(source)
        self._sources.remove(source)
        os.close(source.fd)
        if all(other.sink is not source.sink for other in self._sources):
            source.sink.rest()


def main() -> None:
    """Serve the supervisor at the other end of descriptor 3."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    link = socket.socket(fileno=3)
    link.set_inheritable(False)
    setproctitle("brokerrun: scribe")
    Scribe(link).run()


if __name__ == "__main__":
    with suppress(ConnectionError):  # the supervisor is gone
        main()
