"""Read a queue without taking from it: a checkpoint file says up to where it was handled.

    python examples/python/checkpoint_reader.py QUEUE CHECKPOINT [SECONDS]

Each body is printed, one a line, as it comes; there may be many readers, each with its own file.
With SECONDS it ends when no message came for so long, else at Ctrl-C or SIGTERM: it finishes the
message in hand, and the next start goes on behind it.

Under kill: no message is missed, and at most the one in hand is printed twice. A power cut is no
different: the file is the old one or the new one, never half of one.

It goes by ids, which rise in the order of writing, from however many writers. So it does not see
what comes to the queue behind the checkpoint: a message that is moved there keeps its id, and one
that is written with `priority` overtakes others. It also does not see what others took before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from brokerrun import Queue, create_activity_waiter_for_queues

GLANCE = 0.1  # seconds between looks at whether to stop


class Checkpoint:
    """The id of the message that was handled last, in a file; 0 before the first."""

    def __init__(self, path: Path):
        self._path, self._new = path, path.with_name(f"{path.name}.new")
        self.ident = int(path.read_text()) if path.exists() else 0

    def reached(self, ident: int) -> None:
        """Replace the file. What it says survives a power cut when this returns."""
        with open(self._new, "w") as file:
            file.write(f"{ident}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._new, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file under its name
        finally:
            os.close(folder)
        self.ident = ident


def handle(body: str) -> None:
    """Do the work. If this raises, the program ends, and the next start begins with the message."""
    print(body, flush=True)


class Reader:
    """Handles the messages behind a checkpoint, in their order."""

    def __init__(self, queue: Queue, checkpoint: Checkpoint):
        self._queue, self._checkpoint, self._stopping = queue, checkpoint, False

    def stop(self, *_: object) -> None:
        """Let the message in hand be the last one; a signal handler may call this."""
        self._stopping = True

    def follow(self, seconds: float) -> None:
        """Handle what there is and what comes, until nothing came for *seconds*."""
        waiter = create_activity_waiter_for_queues([self._queue])
        assert waiter is not None  # only a queue with a runner of its own has none
        with closing(waiter):
            self._catch_up()
            quiet_since = time.monotonic()
            while not self._stopping and time.monotonic() - quiet_since < seconds:
                if waiter.wait(GLANCE):
                    self._catch_up()
                    quiet_since = time.monotonic()

    def _catch_up(self) -> None:
        later = self._queue.peek_generator(
            after_timestamp=self._checkpoint.ident, with_timestamps=True
        )
        for body, ident in later:
            if self._stopping:
                return
            handle(body)
            self._checkpoint.reached(ident)  # not before: a message whose work was cut off is due


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    name, checkpoint, *seconds = sys.argv[1:]
    with Queue(name, persistent=True) as queue:
        reader = Reader(queue, Checkpoint(Path(checkpoint)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, reader.stop)
        reader.follow(float(seconds[0]) if seconds else float("inf"))


if __name__ == "__main__":
    main()
