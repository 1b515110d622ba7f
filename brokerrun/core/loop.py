"""The loop that all watchers are, and its life: started, stopped, and ended by an error."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from brokerrun.core.broker import Broker, check_queue
from brokerrun.core.model import Message
from brokerrun.core.recovery import FILE_SECONDS, LOOK_SECONDS, give_back
from brokerrun.core.rounds import Rounds, Watched
from brokerrun.core.stopping import Stop
from brokerrun.errors import StoreBusy, StoreFull, UsageError, wrong_kind

log: Final = logging.getLogger("brokerrun")
_PATIENCE = 1.0  # seconds between tries while the store is busy or full


class Watcher:
    """What all watchers share.

    A watcher runs once, in the calling thread or in one of its own. As a context manager it runs in
    one of its own for as long as the block.

    What a handler raises goes to its error handler, with the message and the id. That answers
    False to end the watcher, anything else to go on. Where there is none, or where it raises
    itself, the error is logged with its traceback (`brokerrun`, ERROR), and the watcher goes on.
    SystemExit and KeyboardInterrupt end the watcher.

    A store that is busy or full is tried again each second, after one warning. Any other error of
    the store ends the watcher; that the database was deleted or replaced is noticed within a
    second.

    A handler may fork. A child that comes back from the handler gets a UsageError: the loop is its
    parent's.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        ranked: bool = False,
        stop_event: threading.Event | None = None,
        saw: Callable[[int], object] | None = None,
    ):
        """Prepare to watch; nothing is opened.

        Args:
            broker: It is closed when the loop ends.
            ranked: The queues go by rank, not in rounds.
            saw: Is told the newest id of the store, no later than a second after it was given.
        """
        if not (stop_event is None or hasattr(stop_event, "is_set")):
            raise wrong_kind("stop_event", "a threading.Event", stop_event)
        self._broker, self._saw = broker, saw
        self._rounds, self._stop = Rounds(ranked=ranked), Stop(stop_event)
        self._begun, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._own_thread = False
        self._error: BaseException | None = None
        self._looked_at, self._saw_at = 0.0, 0.0
        self._more, self._patient = True, False

    # -------------------------------------------------------------------------------- its life

    def run_forever(self) -> None:
        """Watch in this thread until the watcher is stopped.

        Ctrl-C raises KeyboardInterrupt: at once inside a handler, and the message that it had was
        handed out; else before the next message is taken.

        Raises:
            UsageError: The watcher runs or has run.
            StoreError: The store cannot be used any more.
        """
        self._begin(threading.current_thread())
        self._run()

    def watch(self) -> None:
        """Do what `run_forever` does."""
        self.run_forever()

    def run(self) -> None:
        """Do what `run_forever` does."""
        self.run_forever()

    def run_in_thread(self) -> threading.Thread:
        """Watch in a daemon thread, and return it, started.

        What `run_forever` would raise there is logged, and stands in `error`.

        Raises:
            UsageError: The watcher runs or has run.
        """
        thread = threading.Thread(target=self._run_logged, name="brokerrun-watcher", daemon=True)
        self._begin(thread)
        self._own_thread = True
        thread.start()
        return thread

    def start(self) -> threading.Thread:
        """Do what `run_in_thread` does."""
        return self.run_in_thread()

    def stop(self, *, join: bool = True, timeout: float = 2.0) -> None:
        """Ask the watcher to end: it finishes the message in hand and takes no other.

        From any thread, from the handler too, as often as one likes. With *join* this waits up to
        *timeout* seconds for the end, but not in the watcher's own thread. A watcher that does not
        run yet ends as soon as it does. A `stop_event` is set.
        """
        self._stop.ask()
        thread = self._thread
        if not join or thread is None or thread is threading.current_thread():
            return
        if not thread.is_alive():
            return
        if self._own_thread:
            thread.join(timeout)
        else:
            self._ended.wait(timeout)

    def is_running(self) -> bool:
        """Tell whether the watcher was started and has not ended."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._ended.is_set()

    @property
    def error(self) -> BaseException | None:
        """What ended the watcher; None while it runs, and where it ended because it was to."""
        return self._error

    def __enter__(self) -> Self:
        self.run_in_thread()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _begin(self, thread: threading.Thread) -> None:
        if not self._begun.acquire(blocking=False):
            raise UsageError("this watcher runs or has run already: make a new one")
        self._thread = thread

    def _resolve(self, queue: str) -> str:
        """Return the name of the queue that is meant."""
        try:
            return self._broker.resolve(check_queue(queue))
        finally:
            if not self.is_running():
                self._broker.close()  # an alias opened it

    # -------------------------------------------------------------------------------- its loop

    def _run_logged(self) -> None:
        try:
            self._run()
        except Exception:
            log.error("a watcher of %s ended", self._names(), exc_info=True)

    def _run(self) -> None:
        try:
            with self._stop.interrupts(), self._broker:
                while not self._done():
                    self._turn()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    def _done(self) -> bool:
        """Tell whether to end, between two messages."""
        return self._stop.asked

    def _turn(self) -> None:
        """Handle one message, or sleep until there may be one."""
        try:
            found = self._next()
            self._patient = False
        except (StoreBusy, StoreFull) as error:
            self._bear(error)
            return
        if found is not None:
            self._handle(*found)

    def _next(self) -> tuple[str, Watched, Message] | None:
        if not self._more:
            self._more = self._sleep()
            return None
        found = self._rounds.next()
        self._more = found is not None
        if found is not None:
            self._keep_current(found[2].id)
        return found

    def _sleep(self) -> bool:
        """Sleep a while; tell whether there may be something to do."""
        store = self._broker.store
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            if give_back(store):
                return True
        net = min(self._broker.settings.max_interval, FILE_SECONDS)
        woken = store.wait_until(self._has_work, self._stop.longest(net), [self._stop.fd])
        return self._stop.drain() or woken

    def _has_work(self) -> bool:
        self._look_at_newest()
        return self._rounds.ready()

    def _keep_current(self, ident: int) -> None:
        """Tell of the message in hand; of what else came at a wake-up, and each second between."""
        if self._saw is None:
            return
        self._saw(ident)
        if time.monotonic() - self._saw_at > LOOK_SECONDS:
            self._look_at_newest()

    def _look_at_newest(self) -> None:
        if self._saw is not None:
            self._saw_at = time.monotonic()
            self._saw(self._broker.store.newest())

    def _bear(self, error: Exception) -> None:
        if not self._patient:
            log.warning("a watcher of %s waits: %s", self._names(), error)
        self._patient = True
        self._stop.sleep(_PATIENCE)

    def _handle(self, queue: str, watched: Watched, message: Message) -> None:
        process = os.getpid()
        try:
            with self._stop.user_code():
                watched.handler(message.body, message.id)
        except Exception as error:
            _must_be(process, error)
            watched.failed += 1
            watched.source.failed(message)
            if not self._goes_on(queue, watched, message, error):
                self._stop.ask()
        else:
            _must_be(process)
            watched.handled += 1

    def _goes_on(self, queue: str, watched: Watched, message: Message, error: Exception) -> bool:
        """Ask the error handler. While *error* is handled: its traceback is that of both."""
        if watched.error_handler is None:
            log.error("message %d of %s: the handler failed", message.id, queue, exc_info=error)
            return True
        try:
            with self._stop.user_code():
                return watched.error_handler(error, message.body, message.id) is not False
        except Exception:
            text = "message %d of %s: the handler failed, and its error handler"
            log.error(text, message.id, queue, exc_info=True)
            return True

    def _names(self) -> str:
        return ", ".join(self._rounds.watched()) or "no queue"


def _must_be(process: int, error: Exception | None = None) -> None:
    """Raise in a child that a handler forked and that came back from it."""
    if os.getpid() != process:
        raise UsageError(
            "a child that a handler forked came back from it: end the child with os._exit"
        ) from error
