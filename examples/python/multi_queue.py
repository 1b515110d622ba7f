"""Watch several queues in one thread: a handler and an error handler for each, metrics for each.

    python examples/python/multi_queue.py QUEUE...

The queues take turns, so that a full one keeps no other waiting. A further queue, `control`, says
while it runs what to do:

    broker write control 'add NAME'       watch a further queue, behind the others
    broker write control 'remove NAME'    watch it no longer; what is in it stays
    broker write control metrics          print what was done for each queue so far
    broker write control stop             finish the message in hand and end; so does SIGTERM

A queue whose name begins with `mail` has a handler of its own here: it refuses a message without
an `@`, and what it refuses goes to the queue `mail.refused`.

Under kill: a watcher removes a message before the handler has it. Killed in between, that one
message is lost (at most once); with `peek=True` the handler would delete it, and none is lost.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from brokerrun import MultiQueueWatcher, Queue, UsageError

CONTROL = "control"
Handler = Callable[[str, int], None]


def printing(queue: str) -> Handler:
    """Make the handler of a queue: a handler is told the message and its id, not the queue."""
    return lambda message, ident: print(f"{queue}: {message}", flush=True)


def send_mail(message: str, ident: int) -> None:
    if "@" not in message:
        raise ValueError("no address")
    print(f"sent: {message}", flush=True)


def refuse_mail(error: Exception, message: str, ident: int) -> None:
    """Keep what was refused. What an error handler raises is logged; the watcher goes on."""
    Queue("mail.refused").write(f"{message} ({error})")


class Service:
    """One watcher, and the commands that change what it watches."""

    def __init__(self) -> None:
        handlers = {CONTROL: self.obey}
        self.watcher = MultiQueueWatcher([CONTROL], queue_handlers=handlers, error_handler=complain)

    def add(self, queue: str) -> None:
        if queue.startswith("mail"):
            self.watcher.add_queue(queue, send_mail, refuse_mail)
        else:
            self.watcher.add_queue(queue, printing(queue))

    def obey(self, command: str, ident: int) -> None:
        """Do what a message of the control queue says: handlers may change the watcher."""
        match command.split():
            case ["add", queue]:
                self.add(queue)
            case ["remove", queue]:
                self.watcher.remove_queue(queue)
            case ["metrics"]:
                for queue, counts in self.watcher.metrics().items():
                    print(f"{queue}: {counts.handled} handled, {counts.failed} failed", flush=True)
            case ["stop"]:
                self.watcher.stop(join=False)
            case _:
                raise UsageError(f"{command!r}: expected add NAME, remove NAME, metrics or stop")


def complain(error: Exception, message: str, ident: int) -> None:
    """Say what went wrong, for the queues without an error handler of their own."""
    print(f"failed: {error}", file=sys.stderr, flush=True)


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    service = Service()
    for queue in sys.argv[1:]:
        service.add(queue)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.watcher.stop(join=False))
    service.watcher.run_forever()


if __name__ == "__main__":
    main()
