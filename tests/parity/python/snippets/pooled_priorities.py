# Document 004, line 126.
high = AsyncQueue("high_priority", broker)
medium = AsyncQueue("medium_priority", broker)
low = AsyncQueue("low_priority", broker)

# Process by priority
while True:
    if msg := await high.read():
        await process_high(msg)
    elif msg := await medium.read():
        await process_medium(msg)
    elif msg := await low.read():
        await process_low(msg)
    else:
        await asyncio.sleep(0.1)
