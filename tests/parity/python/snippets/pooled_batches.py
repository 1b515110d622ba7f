# Document 004, line 117.
# Process with at-least-once delivery
async for msg in queue.stream(commit_interval=50):
    await process(msg)
    # Messages committed in batches of 50
