"""Share work out: to worker queues in turn or to the shortest, and let idle workers steal.

    python examples/python/load_balancing.py turn SOURCE WORKER...   deal out in turn
    python examples/python/load_balancing.py load SOURCE WORKER...   each to the shortest queue
    python examples/python/load_balancing.py steal OWN OTHER...      work on OWN, then steal

`turn` and `load` end when SOURCE is empty. `steal` is one worker: it prints each body that it
handles; when OWN has none ready, the next is that of the longest other queue, and it ends when
nothing is ready in any. A queue for each worker is for work that is better done in one place. Where
any worker will do, let all of them `claim` from one queue: that shares by load already.

Under kill: a message is dealt exactly once: it is in one queue at each moment, and keeps its id.
One that is being handled is held where it is: killed in between, it is ready again at once, and
handled again (at least once).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import cycle

from brokerrun import Queue


def deal_in_turn(source: Queue, workers: Sequence[Queue]) -> None:
    for worker in cycle(workers):
        if source.move(worker) is None:
            return


def deal_by_load(source: Queue, workers: Sequence[Queue]) -> None:
    """Give each message to the worker with the least to do, what is in its hands included."""
    while source.move(min(workers, key=lambda worker: worker.stats().pending)) is not None:
        pass


def work(own: Queue, others: Sequence[Queue], handle: Callable[[str], None]) -> None:
    """Handle the messages of *own*, and one of the others' whenever there is none."""
    while handle_one(own, handle) or steal(others, handle):
        pass


def steal(others: Sequence[Queue], handle: Callable[[str], None]) -> bool:
    """Handle a message of the longest queue; tell whether there was one in any."""
    by_length = sorted(others, key=lambda other: other.stats().ready, reverse=True)
    # Another thief may have been faster since that look: then the next one is tried.
    return any(handle_one(other, handle) for other in by_length)


def handle_one(queue: Queue, handle: Callable[[str], None]) -> bool:
    """Handle the first message, if any. If *handle* raises, it is due again after a backoff."""
    with queue.claim() as leases:
        for lease in leases:
            handle(lease.body)
            lease.ack()
    return len(leases) > 0


def main() -> None:
    match sys.argv[1:]:
        case ["turn", source, *workers] if workers:
            deal_in_turn(_queue(source), [_queue(worker) for worker in workers])
        case ["load", source, *workers] if workers:
            deal_by_load(_queue(source), [_queue(worker) for worker in workers])
        case ["steal", own, *others] if others:
            work(_queue(own), [_queue(o) for o in others], lambda body: print(body, flush=True))
        case _:
            sys.exit(__doc__)


def _queue(name: str) -> Queue:
    return Queue(name, persistent=True)  # they share one connection


if __name__ == "__main__":
    main()
