"""Ready-made handlers: print each message of a queue, print it as JSON, log it, or build on them.

    python examples/python/default_handlers.py KIND [QUEUE]

KIND is `print`, `json`, `log` or `own`; QUEUE is `events`, in the database of the folder where it
is called. It goes on until Ctrl-C or SIGTERM, and finishes the message in hand.

Under kill: a watcher removes a message before the handler has it. Killed in between, that one
message is lost (at most once); `checkpoint_reader.py` and `lease_worker.py` lose none.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from brokerrun import QueueWatcher, json_print_handler, logger_handler, simple_print_handler


def own_handler(message: str, ident: int) -> None:
    """Log what is urgent, beside the line that each message gets."""
    if not message:
        raise ValueError("an empty message")
    simple_print_handler(message, ident)
    if message.startswith("urgent"):
        logger_handler(message, ident)


def on_error(error: Exception, message: str, ident: int) -> bool:
    """Say what was not handled, and go on; False would end the watcher."""
    print(f"not handled: {ident}: {error}", file=sys.stderr, flush=True)
    return True


HANDLERS: dict[str, Callable[[str, int], None]] = {
    "print": simple_print_handler,
    "json": json_print_handler,
    "log": logger_handler,
    "own": own_handler,
}


def main() -> None:
    if not (2 <= len(sys.argv) <= 3 and sys.argv[1] in HANDLERS):
        sys.exit(__doc__)
    # logger_handler logs to `brokerrun`, at INFO: the program says where that goes.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    queue = sys.argv[2] if len(sys.argv) == 3 else "events"
    watcher = QueueWatcher(queue, HANDLERS[sys.argv[1]], error_handler=on_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop(join=False))
    watcher.run_forever()


if __name__ == "__main__":
    main()
