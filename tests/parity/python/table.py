"""Every Python snippet of the documents, and what each takes for granted."""

from __future__ import annotations

from typing import Final

from parity.python.snippet import Snippet

_WAIT: Final = """
import time
def wait_until(fact):
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
_LOG: Final = """
import sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
with Queue("tasks") as q:
    q.write("order 124")
    q.write("an error")
"""
_ORDERS: Final = (
    _WAIT
    + """
from simplebroker import Queue
orders = Queue("orders", db_path="my.db")
orders.write("order 1")
orders.write("order 2")
"""
)
_NOTIFICATIONS: Final = """
from simplebroker import Queue
Queue("notifications", db_path="my.db").write("hello")
"""
_UNTIL_DONE: Final = {"# Do other work...": "wait_until(lambda: orders.peek() is None)"}
_PRIORITIES: Final = """
system = PriorityQueueSystem()
system.write_with_priority("jobs", "later", 1)
system.write_with_priority("jobs", "now", 9)
print([system.read_highest_priority("jobs") for _ in range(3)])
"""
_POOL: Final = """
import asyncio
from contextlib import AsyncExitStack
from async_pooled_broker import AsyncQueue, async_broker
exits = AsyncExitStack()
broker = await exits.enter_async_context(async_broker("myqueue.db"))
"""
_TASKS: Final = (
    _POOL
    + """
queue = AsyncQueue("tasks", broker)
for text in ("one", "two", "three"):
    await queue.write(text)
"""
)
_CLOSE: Final = "await exits.aclose()\n"
_ASYNC_PRINT: Final = "async def process(msg): print(msg)\n"

SNIPPETS: Final = (
    # 2.8.1, README
    Snippet("context_manager_2_8", given=_NOTIFICATIONS),
    Snippet("basics_2_8", show="print(message)\n"),
    Snippet("safe_watcher_2_8", after=("basics_2_8",), given=_LOG, lines=4, unordered=True),
    Snippet(
        "timestamps_2_8",
        given="from simplebroker import Queue\nfrom simplebroker.db import DBConnection\n",
        fills={"/path/to/": ""},
    ),
    Snippet("thread_2_8", given=_ORDERS, fills=_UNTIL_DONE),
    Snippet("asyncio_executor_2_8", show="asyncio.run(main())\n"),
    Snippet(
        "cross_queue_2_8",
        given='from simplebroker import Queue\nQueue("tasks", db_path="myapp.db").write("one")\n',
        show='print(Queue("tasks", db_path="myapp.db").read_many(5))\n',
    ),
    Snippet("extensions_2_8", show=_PRIORITIES),
    # 3.6.1, README
    Snippet("context_manager", given=_NOTIFICATIONS),
    Snippet("basics", show="print(message)\n"),
    Snippet("metadata", given='from simplebroker import Queue\nQueue("tasks").write("one")\n'),
    Snippet("timestamps", given="from simplebroker import Queue\n", fills={"/path/to/": ""}),
    Snippet("last_ts", given="from simplebroker import Queue\n"),
    Snippet("safe_watcher", after=("basics",), given=_LOG, lines=6, unordered=True),
    Snippet("thread", given=_ORDERS, fills=_UNTIL_DONE),
    Snippet("asyncio_executor", show="asyncio.run(main())\n"),
    Snippet(
        "cross_queue",
        given="""
import os
from simplebroker import Queue, target_for_directory
os.mkdir("myapp")
place = target_for_directory("myapp")
for name in ("tasks", "jobs.a", "jobs.b"):
    Queue(name, db_path=place).write("one")
""",
        fills={"/srv/myapp": "myapp"},
        show='print(Queue("jobs.b", db_path=place).read_many(5))\n',
    ),
    Snippet("priority_system", show=_PRIORITIES),
    Snippet("embedding", fills={"/srv/myapp": "myapp"}),
    Snippet("postgres_runner"),
    Snippet(
        "activity_waiter",
        show="""
print(waiter is None)
if waiter is not None:
    queues[1].write("one")
    print(waiter.wait(20))
    waiter.close()
""",
    ),
    # Its examples, README
    Snippet(
        "standard_usage",
        given=_WAIT,
        show="""
queue = Queue("myqueue")
queue.write("again")
wait_until(lambda: queue.peek() is None)
watcher.stop()
""",
    ),
    Snippet("async_wrapper", show="print(msg)\n"),
    Snippet("runner_imports", show='print(SQLRunner.__name__, "run" in dir(SQLRunner))\n'),
    Snippet("runner_class", after=("runner_imports",), show="print(MyRunner().run('select 1'))\n"),
    Snippet(
        "runner_in_use",
        given='from simplebroker.ext import SQLiteRunner as MyRunner\nconfig = "my.db"\n',
        show='print(Queue("myqueue", db_path="my.db").read())\nrunner.close()\n',
    ),
    # sqqueue
    Snippet("sqqueue_first"),
    Snippet("sqqueue_operations"),
    Snippet(
        "sqqueue_batches", given='from sqqueue import SQLiteQueue\nqueue = SQLiteQueue("q.db")\n'
    ),
    Snippet(
        "sqqueue_maintenance",
        given='from sqqueue import SQLiteQueue\nqueue = SQLiteQueue("q.db")\n',
    ),
    # Asynchronous examples, README
    Snippet("pooled_quick_start"),
    Snippet(
        "pooled_queue",
        given=_POOL
        + """
def process(msg): print(msg)
await AsyncQueue("my_queue", broker).write("first")
""",
        show=_CLOSE,
    ),
    Snippet(
        "pooled_workers",
        given=_TASKS + "async def process_message(msg): print(msg)\n",
        lines=6,
        unordered=True,
    ),
    Snippet(
        "pooled_batches",
        given=_TASKS + _ASYNC_PRINT,
        show="print(await queue.read())\n" + _CLOSE,
    ),
    Snippet(
        "pooled_priorities",
        given=_POOL
        + """
for name in ("low", "medium", "high"):
    await AsyncQueue(f"{name}_priority", broker).write(name)
async def process_high(msg): print(msg)
process_medium = process_low = process_high
""",
        lines=3,
    ),
    Snippet(
        "pooled_errors",
        given=_TASKS
        + """
class ProcessingError(Exception): pass
async def process(msg):
    print(msg)
    if msg == "one":
        raise ProcessingError
    if msg == "two":
        raise ValueError
    if msg == "RETRY:two":
        raise asyncio.CancelledError
""",
        show="""
dlq = AsyncQueue("dead", broker)
try:
    await resilient_worker(queue, dlq)
except asyncio.CancelledError:
    print(await dlq.read())
"""
        + _CLOSE,
    ),
    Snippet(
        "wrapper_beside_sync",
        given='import os\nos.environ["BROKER_DEFAULT_DB_NAME"] = "broker.db"\n',
        show="print(msg)\n",
    ),
    Snippet(
        "pooled_beside_sync",
        given='from simplebroker import Queue\nQueue("tasks", db_path="broker.db").write("sync")\n',
        show="print(msg)\n",
    ),
)
