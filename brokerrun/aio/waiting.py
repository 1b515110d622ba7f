"""Tasks that wait for a queue: one thread and one connection listen for all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from brokerrun.core.broker import Broker
from brokerrun.core.recovery import FILE_SECONDS, LOOK_SECONDS, give_back
from brokerrun.core.stopping import Stop
from brokerrun.errors import StoreBusy, StoreFull

log: Final = logging.getLogger("brokerrun")
_PATIENCE: Final = 1.0  # seconds between tries while the store is busy or full
Waiter = asyncio.Future[None]


class Waits:
    """Wakes tasks when their queue may have something ready.

    The thread begins with the first that waits. It ends with `end`, or by itself soon after its
    event loop was closed.

    Args:
        broker: One of its own: a connection hears of others' commits only, and two listeners on
            one connection would take each other's notices.
    """

    def __init__(self, broker: Broker):
        self._broker, self._stop = broker, Stop()
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Waiter]] = {}
        self._thread: threading.Thread | None = None
        self._looked_at = 0.0

    async def wait(self, queue: str) -> None:
        """Sleep until *queue*, a literal name, may have something ready, or `end` is called.

        What a dead process held there is given back meanwhile.

        Raises:
            StoreGone: The database was deleted or replaced.
        """
        if self._stop.asked:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._listen(loop, queue, waiter)
        try:
            await waiter
        finally:
            self._forget(queue, waiter)

    def end(self) -> None:
        """Wake all who wait, and ask the thread to end."""
        self._stop.ask()
        _wake(self._take_all())

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread. It has closed its connection then."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _listen(self, loop: asyncio.AbstractEventLoop, queue: str, waiter: Waiter) -> None:
        """Let the thread know of one that waits."""
        with self._lock:
            self._waiting.setdefault(queue, []).append(waiter)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=[loop], name="brokerrun-aio-waiting", daemon=True
                )
                self._thread.start()
        self._stop.wake()

    def _forget(self, queue: str, waiter: Waiter) -> None:
        with self._lock:
            waiters = self._waiting.get(queue, [])
            with suppress(ValueError):
                waiters.remove(waiter)
            if not waiters:
                self._waiting.pop(queue, None)

    def _take_all(self) -> list[Waiter]:
        with self._lock:
            waiters = [waiter for each in self._waiting.values() for waiter in each]
            self._waiting.clear()
        return waiters

    # ------------------------------------------------------------------------------ the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._broker, suppress(RuntimeError):  # the loop was closed meanwhile
            while not self._stop.asked and not loop.is_closed():
                try:
                    woken = self._ready_or_asleep()
                except (StoreBusy, StoreFull) as error:
                    log.warning("tasks wait for a queue: %s", error)
                    self._stop.sleep(_PATIENCE)
                except Exception as error:
                    # Those who wait are told; a later one may find the store well, and asks it.
                    loop.call_soon_threadsafe(_wake, self._take_all(), error)
                else:
                    if woken:
                        loop.call_soon_threadsafe(_wake, woken)

    def _ready_or_asleep(self) -> list[Waiter]:
        """Return those whose queue has something; sleep a while where there is nobody."""
        self._stop.drain()
        with self._lock:
            queues = list(self._waiting)
        if not queues:
            self._stop.sleep(FILE_SECONDS)
            return []
        store = self._broker.store
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            give_back(store)
        store.wait(queues, FILE_SECONDS, [self._stop.fd])
        ready = [queue for queue in queues if store.ready(queue)]
        with self._lock:
            return [waiter for queue in ready for waiter in self._waiting.pop(queue, [])]


def _wake(waiters: Iterable[Waiter], error: Exception | None = None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
