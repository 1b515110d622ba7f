# Document 004, line 28.
import asyncio
from async_pooled_broker import AsyncQueue, async_broker

async def main():
    # Create broker with connection pool
    async with async_broker("myqueue.db", pool_size=10) as broker:
        queue = AsyncQueue("tasks", broker)

        # Write messages
        await queue.write("Task 1")
        await queue.write("Task 2")

        # Read messages
        while msg := await queue.read():
            print(f"Processing: {msg}")

asyncio.run(main())
