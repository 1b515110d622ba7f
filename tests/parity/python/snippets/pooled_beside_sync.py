# Document 004, line 228.
# Custom async code (ADVANCED - uses internal APIs)
from async_pooled_broker import AsyncQueue, async_broker
async with async_broker("broker.db") as broker:
    queue = AsyncQueue("tasks", broker)
    msg = await queue.read()  # Gets "sync message"
