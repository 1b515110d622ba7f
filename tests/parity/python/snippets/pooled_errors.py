# Document 004, line 145.
async def resilient_worker(queue: AsyncQueue, dlq: AsyncQueue):
    while True:
        msg = await queue.read()
        if msg is None:
            continue

        try:
            await process(msg)
        except ProcessingError:
            # Move to dead letter queue
            await dlq.write(f"FAILED:{msg}")
        except Exception as e:
            # Retry later
            await queue.write(f"RETRY:{msg}")
