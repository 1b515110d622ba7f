# Document 002, line 254.
from simplebroker import Queue

runner = MyRunner(config)
with Queue("myqueue", runner=runner) as q:
    q.write("Hello from custom runner!")
