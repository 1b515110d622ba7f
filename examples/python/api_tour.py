"""Tour of the API: what a Queue and an open broker do, each form once, with what it gives.

    python examples/python/api_tour.py

It works on the database of the folder where it is called (`.broker.db`), in the queues of
QUEUES, which it empties first. Nothing here needs a `try` against a busy database: a call waits
for its turn by itself (BROKER_BUSY_TIMEOUT) before it raises StoreBusy.

Under kill: a `read` takes the message out before the program has it (at most once), a lease gives
it back (at least once), a `move` leaves it in one of the two queues, whenever the program dies.
"""

from __future__ import annotations

from brokerrun import MessageError, Queue, QueueNameError, open_broker

QUEUES = ("tour", "tour.moved", "tour.errors", "tour.dlq")


def write_and_read(queue: Queue) -> None:
    queue.write("first")
    queue.write_many(["second", "third", "fourth", "fifth"])  # one transaction
    print("peek:", queue.peek())  # it stays
    print("read:", queue.read())
    print("two:", queue.read_many(2))
    print("the rest:", list(queue.read_generator()))
    print("nothing left:", queue.read())


def ids(queue: Queue) -> None:
    """An id is the time of the writing in nanoseconds: it names a message, and bounds others."""
    old, new = queue.write_many(["old", "new"])
    print("ids rise:", old < new == queue.last_ts)
    print("by id:", queue.peek_one(exact_timestamp=old))
    print("later:", queue.peek_many(after_timestamp=old))
    print("with its id:", queue.read_one(with_timestamps=True) == ("old", old))
    print("deleted:", queue.delete(message_id=new), queue.delete(message_id=new))


def order(queue: Queue) -> None:
    queue.write("later", delay=60)  # seconds
    queue.write("normal")
    queue.write("urgent", priority=-1)  # smaller is sooner
    print("ready:", queue.read_many(10))
    stats = queue.stats()
    print("waits for its time:", stats.delayed, "of", stats.pending, queue.has_pending())
    queue.delete()


def move(queue: Queue) -> None:
    """A message keeps its id, and is in one queue at each moment."""
    queue.write_many(["old", "error 1", "fine", "error 2"])
    midnight = queue.generate_timestamp()  # all ids before are smaller, all later ones greater
    queue.write("young")
    moved = queue.move("tour.moved")
    print("moved:", moved and moved["message"])
    for body, ident in queue.peek_generator(with_timestamps=True):
        if body.startswith("error"):
            queue.move_one("tour.errors", exact_timestamp=ident)
    print("by content:", Queue("tour.errors").peek_many())
    print("by time:", queue.move_many("tour.moved", 100, before_timestamp=midnight))
    print("left:", queue.read_many(10))


def hold(queue: Queue) -> None:
    """A lease holds a message until it is settled; what the block leaves unsettled comes back."""
    queue.write_many(["good", "bad", "hopeless", "unseen"])
    with queue.claim(4) as leases:
        for lease in leases:
            if lease.body == "good":
                lease.ack()
            elif lease.body == "bad":
                lease.nack("not today", delay=60)
            else:
                lease.dead("never")
                break
    print("dead:", Queue("tour.dlq").peek())
    print("still there:", queue.peek_many())


def hold_batches(queue: Queue) -> None:
    """A generator can hold its batch as well: left in the middle, all of the batch comes back."""
    queue.write_many(["1", "2", "3"])
    for body in queue.read_generator(delivery_guarantee="at_least_once"):
        print("in hand:", body)
        break
    print("all back:", queue.read_many(3))


def whole_store(queue: Queue) -> None:
    queue.write("here")
    with open_broker() as broker:
        print("told:", broker.broadcast("to all", pattern="tour.*"))
        for stats in broker.list_queue_stats(prefix="tour."):
            print(f"{stats.queue}: {stats.pending} pending")
        print("one:", broker.queue("tour").read())


def refusals(queue: Queue) -> None:
    """What cannot be meant is refused before anything is stored; both are ValueErrors too."""
    try:
        queue.move("no blanks")
    except QueueNameError as error:
        print(error)
    try:
        Queue(queue.name, config={"BROKER_MAX_MESSAGE_SIZE": 4}).write("too long")
    except MessageError as error:
        print(error)


def main() -> None:
    for name in QUEUES:
        Queue(name).delete()
    # Persistent: the connection stays open between the calls, until the block ends.
    with Queue("tour", persistent=True) as queue:
        for part in (write_and_read, ids, order, move, hold, hold_batches, whole_store, refusals):
            print(f"--- {part.__name__}")
            part(queue)
            queue.delete()


if __name__ == "__main__":
    main()
