# Document 002, line 190.
# Standard synchronous usage
from simplebroker import Queue, QueueWatcher

with Queue("myqueue") as q:
    q.write("Hello, World!")
    msg = q.read()
    print(msg)

# For watching queues
watcher = QueueWatcher(
    db=".broker.db",
    queue="myqueue",
    handler=lambda msg, ts: print(f"Got: {msg}")
)
watcher.run_in_thread()
