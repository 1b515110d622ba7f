# Document 004, line 96.
async def worker(queue: AsyncQueue, worker_id: int):
    while True:
        msg = await queue.read()
        if msg is None:
            await asyncio.sleep(0.1)
            continue

        # Process message
        print(f"Worker {worker_id}: {msg}")
        await process_message(msg)

# Run multiple workers
workers = [worker(queue, i) for i in range(5)]
await asyncio.gather(*workers)
