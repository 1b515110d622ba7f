"""Change your own tables and the queue in one transaction: an order is stored and shipped once.

    python examples/python/lease_worker.py order NUMBER...   store orders, and a message for each
    python examples/python/lease_worker.py work              ship until no message is ready

The tables stand in the database of the queue (`.broker.db`), and `within=` puts the message, or
its end, into the transaction of the program's own connection: both happen, or neither.

`work` ships nothing with a negative number (dead at once: `shipping.dlq`), and puts off for a
minute what has the number 13.

Under kill: no order is without its message, or the other way round, and each is shipped exactly
once: a worker that dies leaves what it held ready again at once, and of its last transaction all
or nothing. What is outside of the database (a parcel, an HTTP call) is at least once as ever.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

from brokerrun import Lease, Queue

DATABASE = ".broker.db"
BATCH = 10
TABLES = """
create table if not exists orders (number integer primary key);
create table if not exists shipments (number integer);
"""


def connect(queue: Queue) -> sqlite3.Connection:
    """Open the database of the queue for tables of our own."""
    queue.stats()  # makes the database, where there is none
    connection = sqlite3.connect(DATABASE)
    connection.executescript(TABLES)
    return connection


def order(connection: sqlite3.Connection, queue: Queue, numbers: list[str]) -> None:
    """Store orders and their messages, all or none."""
    with connection:  # commits, or rolls back where the block raises
        for number in numbers:
            connection.execute("insert into orders values (?)", [number])
            queue.enqueue(number, within=connection)


def work(connection: sqlite3.Connection, queue: Queue) -> None:
    """Ship in batches. What a batch leaves unsettled when it ends is ready again."""
    while leases := queue.claim(BATCH):
        with leases:
            for lease in leases:
                ship(connection, lease)


def ship(connection: sqlite3.Connection, lease: Lease) -> None:
    number = int(lease.body)
    if number < 0:
        lease.dead("there is no such order")
    elif number == 13:
        lease.nack("not on a Friday", delay=60)
    else:
        with connection:
            if lease.ack(within=connection):  # else its lease is over: it is another's to ship
                connection.execute("insert into shipments values (?)", [number])


def main() -> None:
    with (
        Queue("shipping", DATABASE, persistent=True) as queue,
        closing(connect(queue)) as connection,
    ):
        match sys.argv[1:]:
            case ["order", *numbers] if numbers:
                order(connection, queue, numbers)
            case ["work"]:
                work(connection, queue)
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main()
