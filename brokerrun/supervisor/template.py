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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import msgspec
from setproctitle import setproctitle

from brokerrun.core.backends import load_engine, open_store
from brokerrun.core.blame import trace
from brokerrun.core.settings import Settings
from brokerrun.supervisor import wire
from brokerrun.supervisor.accounts import access_fault, become
from brokerrun.supervisor.code import fingerprint
from brokerrun.supervisor.handlers import Handler, HandlerFault, load_handler
from brokerrun.supervisor.limits import apply_limits
from brokerrun.supervisor.logs import logger, set_up_logs
from brokerrun.supervisor.processes import die_with, hear, holds_open, os_threads, wake_pipe
from brokerrun.supervisor.slotfile import open_slot
from brokerrun.supervisor.spec import WorkerSpec
from brokerrun.supervisor.standard import print_into
from brokerrun.supervisor.strays import MARK
from brokerrun.supervisor.wear import Wear
from brokerrun.supervisor.worker import Worker

_ALL_SIGNALS = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
_MOST_FDS = 5
_MOST_TRACES = 5  # that go into one message
_CACHE_MB = 2  # a worker looks at few pages, and there are many workers


def main() -> None:
    """Serve the supervisor at the other end of descriptor 3."""
    link = socket.socket(fileno=3)
    link.set_inheritable(False)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    told = link.recv(wire.MOST_BYTES)
    if not told:
        return  # the supervisor ended before it said of what
    began_at = time.time_ns()
    setup = msgspec.json.decode(told, type=wire.Setup)
    load_engine(setup.database)  # before it is a user who may not read what is ours
    if setup.account is not None:
        become(setup.account)
    if not die_with(setup.supervisor):  # after that: a change of user disarms it
        sys.exit(1)
    setproctitle("brokerrun: template")
    set_up_logs(setup.log, setup.log_level)
    handlers, faults, traces = load(
        setup, lambda worker: link.send(msgspec.json.encode(wire.Importing(worker)))
    )
    if setup.account and setup.database and (fault := access_fault(setup.account, setup.database)):
        faults += [(wanted.worker, fault) for wanted in setup.handlers]
    gc.collect()
    gc.freeze()  # so that a worker's collections leave the shared pages alone
    imported = wire.Imported(faults, unsafe(setup.database), fingerprint(began_at), traces)
    link.send(msgspec.json.encode(imported))
    while message := _receive(link):
        request, fds = message
        _fork_worker(request, fds, handlers, setup, link)


def load(
    setup: wire.Setup, begin: Callable[[str], object] = lambda worker: None
) -> tuple[dict[str, Handler], list[tuple[str, str]], list[str]]:
    """Import everything; say what cannot be, by worker, and what was raised.

    *begin* is told which one comes next.
    """
    os.chdir(setup.cwd)
    sys.path[:0] = setup.path
    handlers: dict[str, Handler] = {}
    faults: list[tuple[str, str]] = []
    traces: list[str] = []
    for module in setup.preload:
        begin("")
        try:
            import_module(module)
        except BaseException as error:
            faults.append(("", f"cannot import {module!r}: {type(error).__name__}: {error}"))
            traces += _users_trace(error)
    for wanted in setup.handlers:
        begin(wanted.worker)
        try:
            handlers[wanted.worker] = load_handler(wanted.handler)
        except HandlerFault as fault:
            faults.append((wanted.worker, str(fault)))
            if fault.__cause__ is not None:
                traces += _users_trace(fault.__cause__)
    return handlers, faults, list(dict.fromkeys(traces))[:_MOST_TRACES]


def _users_trace(error: BaseException) -> list[str]:
    """Return the traceback from the first line of the user's on; nothing where there is none."""
    step = error.__traceback__
    while step is not None and _is_import(step.tb_frame):
        step = step.tb_next
    return [trace(error.with_traceback(step))] if step is not None else []


def _is_import(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module in ("brokerrun", "importlib", "_frozen_importlib", "_frozen_importlib_external")


def unsafe(database: str) -> list[str]:
    """Say why nothing may be forked from this process: a child has none of its threads and any of
    their locks, and an open database there loses commits."""
    found = []
    if (others := os_threads() - 1) > 0:
        named = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
        native = [f"{others - len(named)} native"] if others > len(named) else []
        found.append(f"an import left threads: {', '.join([*named, *native])}")
    if holds_open(database):
        found.append(f"an import left {database} open")
    return found


def _receive(link: socket.socket) -> tuple[wire.Spawn, list[int]] | None:
    data, fds, _, _ = socket.recv_fds(link, wire.MOST_BYTES, _MOST_FDS)
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
    with suppress(ChildProcessError):  # what was imported ignores its children, or reaps them all
        os.waitpid(between, 0)


def _as_between(
    request: wire.Spawn,
    fds: list[int],
    handlers: dict[str, Handler],
    setup: wire.Setup,
    link: socket.socket,
) -> NoReturn:
    """In the child: leave by os._exit, whatever happens."""
    status, between = 70, os.getpid()
    try:
        worker = os.fork()
        if worker == 0:
            link.close()
            status = be_worker(request, fds, handlers[request.spec.name], setup, between)
        else:  # said here, so that one that hangs before it says hello can be killed
            os.write(fds[0], msgspec.json.encode(wire.Forked(worker)))
            status = 0
    finally:
        os._exit(status)


def be_worker(
    request: wire.Spawn, fds: list[int], handler: Handler, setup: wire.Setup, between: int = 0
) -> int:
    """Work until told to stop; return the exit status. *fds*: the channel, the file for dumps;
    *between*: the pid of the one that forked us, 0: nobody did."""
    os.setpgid(0, 0)
    if not die_with(setup.supervisor, after=between):
        return 1
    stop = _Stop()
    faulthandler.register(signal.SIGUSR1, file=fds[1], all_threads=True, chain=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    print_into(fds[3:])
    spec = request.spec
    _restrain(spec)
    setproctitle(f"brokerrun: {spec.name}.{request.number}")
    os.environ[MARK] = str(request.owner)
    log = logger().bind(worker=f"{spec.name}.{request.number}")
    channel = socket.socket(fileno=fds[0])
    store = open_store(request.database, create=False, settings=Settings(cache_mb=_CACHE_MB))
    try:
        store.begin_life(request.owner)
        slot = open_slot(fds[2], request.place)
        channel.send(msgspec.json.encode(wire.Hello(os.getpid())))
        if channel.recv(16) != wire.GO:
            return 0  # the supervisor is gone, or thought better of it
        channel.setblocking(False)
        worker = Worker(
            spec, handler, store, slot, request.owner, log, _Told(stop, channel),
            Wear(spec, lambda why: _ask_for_heir(channel, why)), [stop.fd, channel.fileno()],
            request.number,
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


def _restrain(spec: WorkerSpec) -> None:
    apply_limits(spec.limits)
    if spec.umask is not None:
        os.umask(spec.umask)


def _ask_for_heir(channel: socket.socket, why: str) -> None:
    with suppress(OSError):  # the supervisor is gone: that ends us soon
        channel.send(msgspec.json.encode(wire.Worn(why)))


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
