"""The template: imports the handlers, and forks workers from what it became. The only forker.

It opens no store and has one thread. It ignores TERM: it goes when its supervisor goes, or closes
the socket. A worker is forked twice, so that it becomes the supervisor's own child.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

import msgspec
from setproctitle import setproctitle

from brokerrun.core.backends import open_store
from brokerrun.core.settings import Settings
from brokerrun.supervisor import wire
from brokerrun.supervisor.handlers import Handler, HandlerFault, load_handler
from brokerrun.supervisor.logs import logger, set_up_logs
from brokerrun.supervisor.processes import die_with, hear, holds_open, os_threads, wake_pipe
from brokerrun.supervisor.slotfile import open_slot
from brokerrun.supervisor.strays import MARK
from brokerrun.supervisor.worker import Worker

_ALL_SIGNALS = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
_PARENT_SECONDS = 5.0
_CACHE_MB = 2  # a worker looks at few pages, and there are many workers


def main() -> None:
    """Serve the supervisor at the other end of descriptor 3."""
    link = socket.socket(fileno=3)
    link.set_inheritable(False)
    setup = msgspec.json.decode(link.recv(wire.MOST_BYTES), type=wire.Setup)
    if not die_with(setup.supervisor, _PARENT_SECONDS):
        sys.exit(1)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    setproctitle("brokerrun: template")
    set_up_logs(setup.log, setup.log_level)
    handlers, faults = _load(setup, link)
    if holds_open(setup.database):
        faults.append(("", f"an import left {setup.database} open: open it in the handler"))
    gc.collect()
    gc.freeze()  # so that a worker's collections leave the shared pages alone
    link.send(msgspec.json.encode(wire.Imported(faults, os_threads())))
    while message := _receive(link):
        request, fds = message
        _fork_worker(request, fds, handlers, setup, link)


def _load(
    setup: wire.Setup, link: socket.socket
) -> tuple[dict[str, Handler], list[tuple[str, str]]]:
    """Import everything; say what cannot be, by worker."""
    os.chdir(setup.cwd)
    sys.path[:0] = setup.path
    handlers: dict[str, Handler] = {}
    faults: list[tuple[str, str]] = []
    for module in setup.preload:
        link.send(msgspec.json.encode(wire.Importing("")))
        try:
            import_module(module)
        except BaseException as error:
            faults.append(("", f"cannot import {module!r}: {type(error).__name__}: {error}"))
    for wanted in setup.handlers:
        link.send(msgspec.json.encode(wire.Importing(wanted.worker)))
        try:
            handlers[wanted.worker] = load_handler(wanted.handler)
        except HandlerFault as fault:
            faults.append((wanted.worker, str(fault)))
    return handlers, faults


def _receive(link: socket.socket) -> tuple[wire.Spawn, list[int]] | None:
    data, fds, _, _ = socket.recv_fds(link, wire.MOST_BYTES, 2)
    for fd in fds:
        os.set_inheritable(fd, False)
    return (msgspec.json.decode(data, type=wire.Spawn), fds) if data else None


def _fork_worker(
    request: wire.Spawn,
    fds: list[int],
    handlers: dict[str, Handler],
    setup: wire.Setup,
    link: socket.socket,
) -> None:
    """Fork twice; the one between ends at once. Signals are blocked until handlers are set."""
    sys.stdout.flush()
    sys.stderr.flush()
    with _signals_blocked():
        between = os.fork()
        if between == 0:
            _as_between(request, fds, handlers, setup, link)
    for fd in fds:
        os.close(fd)
    os.waitpid(between, 0)


def _as_between(
    request: wire.Spawn,
    fds: list[int],
    handlers: dict[str, Handler],
    setup: wire.Setup,
    link: socket.socket,
) -> NoReturn:
    """In the child: leave by os._exit, whatever happens."""
    status = 70
    try:
        worker = os.fork()
        if worker == 0:
            link.close()
            status = _be_worker(request, fds, handlers[request.spec.name], setup)
        else:  # said here, so that one that hangs before it says hello can be killed
            os.write(fds[0], msgspec.json.encode(wire.Forked(worker)))
            status = 0
    finally:
        os._exit(status)


def _be_worker(request: wire.Spawn, fds: list[int], handler: Handler, setup: wire.Setup) -> int:
    os.setpgid(0, 0)
    if not die_with(setup.supervisor, _PARENT_SECONDS):
        return 1
    stop = _Stop()
    faulthandler.register(signal.SIGUSR1, file=fds[1], all_threads=True, chain=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    spec = request.spec
    setproctitle(f"brokerrun: {spec.name}.{request.number}")
    os.environ[MARK] = str(request.owner)
    log = logger().bind(worker=f"{spec.name}.{request.number}")
    channel = socket.socket(fileno=fds[0])
    store = open_store(request.database, create=False, settings=Settings(cache_mb=_CACHE_MB))
    try:
        store.begin_life(request.owner)
        slot = open_slot(request.slots, request.place)
        channel.send(msgspec.json.encode(wire.Hello(os.getpid())))
        if channel.recv(16) != wire.GO:
            return 0  # the supervisor is gone, or thought better of it
        channel.setblocking(False)
        worker = Worker(
            spec, handler, store, slot, request.owner, log, _Told(stop, channel),
            [stop.fd, channel.fileno()],
        )  # fmt: skip
        worker.run()
    except ConnectionError:
        return 0  # the supervisor is gone
    except BaseException as error:
        log.error("worker_failed", error=f"{type(error).__name__}: {error}")
        return 70
    finally:
        store.close()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


class _Stop:
    """The flag that TERM sets, and a descriptor that becomes readable with it."""

    def __init__(self) -> None:
        self.asked = False
        self.fd, write_fd = wake_pipe()
        signal.signal(signal.SIGTERM, self._ask)
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
            signal.signal(signum, signal.SIG_IGN)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        # TERM is blocked meanwhile: one that came before the child lets go would be ours, and lost.
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,)),
            after_in_parent=_hear_term,
            after_in_child=_be_nobodys_worker,
        )

    def _ask(self, signum: int, frame: object) -> None:
        self.asked = True


def _be_nobodys_worker() -> None:
    """In a child that a handler forks: TERM ends it, and tells us nothing."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_DFL)
    _hear_term()


def _hear_term() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


class _Told:
    """Whether the worker shall stop: it was told to, or its supervisor is gone."""

    def __init__(self, stop: _Stop, channel: socket.socket):
        self._stop, self._channel = stop, channel
        self._news = select.poll()
        self._news.register(stop.fd, select.POLLIN)
        self._news.register(channel, select.POLLIN)

    def __call__(self) -> bool:
        if not self._stop.asked and self._news.poll(0):
            hear(self._stop.fd)  # a signal handler of user code wakes us too
            try:
                self._stop.asked |= not self._channel.recv(16)
            except BlockingIOError:
                pass
            except OSError:
                self._stop.asked = True
        return self._stop.asked


@contextmanager
def _signals_blocked() -> Iterator[Any]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


if __name__ == "__main__":
    with suppress(ConnectionError):  # the supervisor is gone
        main()
