"""The documents' own asyncio texts, as they are written but for the import line."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tasks import cancelled, fact, use
from watched import fill, left

from brokerrun.aio import AsyncBroker, AsyncQueue

QUICK_START = """
import asyncio
from brokerrun.aio import AsyncQueue, async_broker

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
"""  # noqa: W293

WRAPPER = """
from brokerrun.aio import AsyncBroker

async with AsyncBroker("broker.db") as broker:
    await broker.push("myqueue", "Hello async!")
    msg = await broker.pop("myqueue")
"""

INTEGRATION = """
# Standard sync code
from brokerrun import Queue
with Queue("tasks") as q:
    q.write("sync message")

# Async wrapper (RECOMMENDED)
from brokerrun.aio import AsyncBroker
async with AsyncBroker("broker.db") as broker:
    msg = await broker.pop("tasks")  # Gets "sync message"
"""

HIGH_LEVEL = """
queue = AsyncQueue("my_queue", broker)
await queue.write("message")
msg = await queue.read()
async for msg in queue.stream():
    process(msg)
"""

WORKERS = """
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
"""  # noqa: W293

BATCHES = """
# Process with at-least-once delivery
async for msg in queue.stream(commit_interval=50):
    await process(msg)
    # Messages committed in batches of 50
"""

PRIORITIES = """
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
"""  # noqa: W291

RESILIENT = """
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
"""  # noqa: W293


async def told(text: str, **names: Any) -> dict[str, Any]:
    """Run a text that awaits at its outermost level."""
    names |= {"asyncio": asyncio, "AsyncQueue": AsyncQueue}
    result = eval(compile(text, "text", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(result):
        await result
    return names


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_quick_start_runs_as_it_is_written(there: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUICK_START], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("Processing: Task 1\nProcessing: Task 2\n", "")


def test_the_text_of_the_wrapper_runs_as_it_is_written(there: Path) -> None:
    assert asyncio.run(told(WRAPPER))["msg"] == "Hello async!"


def test_sync_code_and_tasks_meet_as_it_is_written(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_DEFAULT_DB_NAME", "broker.db")  # the text leaves it out
    assert asyncio.run(told(INTEGRATION))["msg"] == "sync message"


def test_the_high_level_text_runs_as_it_is_written(database: str) -> None:
    fill(database, "two", queue="my_queue")
    seen: list[str] = []
    found = use(database, lambda broker: told(HIGH_LEVEL, broker=broker, process=seen.append))
    assert (found["msg"], seen) == ("message", ["message"])


def test_the_worker_text_runs_as_it_is_written(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = [f"m{n}" for n in range(20)]
    fill(database, *bodies)
    seen = gathering(database, WORKERS, names=["process_message"], until=len(bodies))
    assert sorted(seen) == sorted(bodies)
    assert capsys.readouterr().out.count("Worker ") == len(bodies)


def test_the_batch_text_runs_as_it_is_written(database: str) -> None:
    bodies = [str(n) for n in range(120)]
    fill(database, *bodies)
    assert gathering(database, BATCHES, names=["process"], until=len(bodies)) == bodies
    assert left(database) == []


def test_the_priority_text_runs_as_it_is_written(database: str) -> None:
    for level in ("low", "medium", "high"):
        fill(database, level, f"{level} too", queue=f"{level}_priority")
    names = ["process_high", "process_medium", "process_low"]
    seen = gathering(database, PRIORITIES, names=names, until=6)
    assert seen == ["high", "high too", "medium", "medium too", "low", "low too"]


def test_the_resilient_text_runs_as_it_is_written(database: str) -> None:
    class ProcessingError(Exception):
        pass

    fill(database, "good", "broken", "odd")
    seen: list[str] = []

    async def process(message: str) -> None:
        if message == "broken":
            raise ProcessingError
        if message == "odd":
            raise ValueError
        seen.append(message)

    async def work(broker: AsyncBroker) -> None:
        queue, dlq = AsyncQueue("q", broker), AsyncQueue("dlq", broker)
        more = {"process": process, "ProcessingError": ProcessingError}
        worker = (await told(RESILIENT, **more))["resilient_worker"]
        task = asyncio.create_task(worker(queue, dlq))
        await fact(lambda: len(seen) == 2)
        await cancelled(task)

    use(database, work)
    assert seen == ["good", "RETRY:odd"]
    assert left(database, "dlq") == ["FAILED:broken"]


def gathering(database: str, text: str, names: list[str], until: int) -> list[str]:
    """Run a text, which may go on for ever, until its functions got that many messages."""
    seen: list[str] = []

    async def process(message: str) -> None:
        seen.append(message)

    async def work(broker: AsyncBroker) -> None:
        more: dict[str, Any] = dict.fromkeys(names, process)
        queue = AsyncQueue("q", broker)
        task = asyncio.create_task(told(text, broker=broker, queue=queue, **more))
        await fact(lambda: len(seen) >= until)
        if text is BATCHES:
            await task
        else:
            await cancelled(task)

    use(database, work)
    return seen
