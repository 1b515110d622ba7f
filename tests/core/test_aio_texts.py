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
from parity.python.snippet import Snippet
from tasks import cancelled, fact, use
from watched import fill, left

from brokerrun.aio import AsyncBroker, AsyncQueue


async def told(snippet: str, **names: Any) -> dict[str, Any]:
    """Run a snippet, which may await at its outermost level, and return its names."""
    names |= {"asyncio": asyncio, "AsyncQueue": AsyncQueue}
    text = Snippet(snippet).program(ours=True)
    result = eval(compile(text, snippet, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(result):
        await result
    return names


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_quick_start_runs_as_it_is_written(there: Path) -> None:
    text = Snippet("pooled_quick_start").program(ours=True)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("Processing: Task 1\nProcessing: Task 2\n", "")


def test_the_text_of_the_wrapper_runs_as_it_is_written(there: Path) -> None:
    assert asyncio.run(told("async_wrapper"))["msg"] == "Hello async!"


def test_sync_code_and_tasks_meet_as_it_is_written(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_DEFAULT_DB_NAME", "broker.db")  # the text leaves it out
    assert asyncio.run(told("wrapper_beside_sync"))["msg"] == "sync message"


def test_the_high_level_text_runs_as_it_is_written(database: str) -> None:
    fill(database, "two", queue="my_queue")
    seen: list[str] = []
    found = use(database, lambda broker: told("pooled_queue", broker=broker, process=seen.append))
    assert (found["msg"], seen) == ("message", ["message"])


def test_the_worker_text_runs_as_it_is_written(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = [f"m{n}" for n in range(20)]
    fill(database, *bodies)
    seen = gathering(database, "pooled_workers", names=["process_message"], until=len(bodies))
    assert sorted(seen) == sorted(bodies)
    assert capsys.readouterr().out.count("Worker ") == len(bodies)


def test_the_batch_text_runs_as_it_is_written(database: str) -> None:
    bodies = [str(n) for n in range(120)]
    fill(database, *bodies)
    assert gathering(database, "pooled_batches", names=["process"], until=len(bodies)) == bodies
    assert left(database) == []


def test_the_priority_text_runs_as_it_is_written(database: str) -> None:
    for level in ("low", "medium", "high"):
        fill(database, level, f"{level} too", queue=f"{level}_priority")
    names = ["process_high", "process_medium", "process_low"]
    seen = gathering(database, "pooled_priorities", names=names, until=6)
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
        worker = (await told("pooled_errors", **more))["resilient_worker"]
        task = asyncio.create_task(worker(queue, dlq))
        await fact(lambda: len(seen) == 2)
        await cancelled(task)

    use(database, work)
    assert seen == ["good", "RETRY:odd"]
    assert left(database, "dlq") == ["FAILED:broken"]


def gathering(database: str, snippet: str, names: list[str], until: int) -> list[str]:
    """Run a snippet, which may go on for ever, until its functions got that many messages."""
    seen: list[str] = []

    async def process(message: str) -> None:
        seen.append(message)

    async def work(broker: AsyncBroker) -> None:
        more: dict[str, Any] = dict.fromkeys(names, process)
        queue = AsyncQueue("q", broker)
        task = asyncio.create_task(told(snippet, broker=broker, queue=queue, **more))
        await fact(lambda: len(seen) >= until)
        if snippet == "pooled_batches":
            await task
        else:
            await cancelled(task)

    use(database, work)
    return seen
