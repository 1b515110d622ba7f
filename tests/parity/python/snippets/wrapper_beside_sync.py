# Document 004, line 212.
# Standard sync code
from simplebroker import Queue
with Queue("tasks") as q:
    q.write("sync message")

# Async wrapper (RECOMMENDED)
from async_wrapper import AsyncBroker
async with AsyncBroker("broker.db") as broker:
    msg = await broker.pop("tasks")  # Gets "sync message"
