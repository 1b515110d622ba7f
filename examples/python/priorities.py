"""Urgent work first: several ordinary queues read in order, and one queue with priorities.

    python examples/python/priorities.py write NAME RANK BODY...    RANK is 0 to 2, 0 is soonest
    python examples/python/priorities.py work NAME                  until nothing is ready

`write` does both: it stores each body in the queue NAME.RANK and in the queue NAME under that
priority. `work` then empties the first kind and the second, and prints `ordered` or `priority`
before each body. A body that comes meanwhile is soon enough if it comes before its turn.

Take several queues where each rank is to be counted, emptied or stopped by itself, or where
SimpleBroker has to read them too. Take `priority=` where one order is all you want: it is one look
into one queue, and `broker write --priority` and the workers of `brokerrun up` have it as well.

Under kill: a message is held while it is handled. Killed in between, it is ready again at once,
and handled again (at least once); nothing is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from brokerrun import Leases, Queue

RANKS = (0, 1, 2)


class OrderedQueues:
    """Ordinary queues that are looked into one after the other, before each message."""

    def __init__(self, name: str):
        self._queues = [Queue(f"{name}.{rank}", persistent=True) for rank in RANKS]

    def write(self, rank: int, bodies: Sequence[str]) -> None:
        """Store messages of one rank, all or none."""
        self._queues[rank].write_many(bodies)

    def claim(self) -> Leases:
        """Hold the first message of the first queue that has one, as `Queue.claim` does."""
        *before_last, last = self._queues
        for queue in before_last:
            if leases := queue.claim():
                return leases
        return last.claim()


def work(kind: str, claim: Callable[[], Leases]) -> None:
    """Handle messages until none is ready."""
    while leases := claim():
        with leases:
            for lease in leases:
                print(kind, lease.body, flush=True)
                lease.ack()


def main() -> None:
    match sys.argv[1:]:
        case ["write", name, rank, *bodies] if bodies and rank in map(str, RANKS):
            OrderedQueues(name).write(int(rank), bodies)
            Queue(name).write_many(bodies, priority=int(rank))
        case ["work", name]:
            work("ordered", OrderedQueues(name).claim)
            work("priority", Queue(name, persistent=True).claim)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
