# Document 004, line 75.
queue = AsyncQueue("my_queue", broker)
await queue.write("message")
msg = await queue.read()
async for msg in queue.stream():
    process(msg)
