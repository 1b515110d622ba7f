"""How asyncio use ends: closed while it waits or works, never closed, or with its file gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from support import eventually
from tasks import fact, ours, store_locked
from watched import fill, left

from brokerrun.aio import AsyncBroker
from brokerrun.core.queue import Queue
from brokerrun.errors import StoreGone, UsageError

# ------------------------------------------------------------------------------------ closing


def test_closing_ends_those_who_wait_at_once_and_every_thread(database: str) -> None:
    async def main() -> None:
        broker = AsyncBroker(database)
        await broker.push("q", "a")
        got: list[str] = []

        async def follow() -> str:
            async for message in broker.queue("q"):
                got.append(message)
            return "ended"

        tasks = [asyncio.create_task(follow()) for _ in range(3)]
        await fact(lambda: got == ["a"] and "brokerrun-aio-waiting" in ours())
        begun = time.monotonic()
        await broker.close()
        assert await asyncio.gather(*tasks) == ["ended"] * 3
        assert time.monotonic() - begun < 1
        assert ours() == []

    asyncio.run(main())
    assert not Path(database + "-wal").exists()


def test_closing_finishes_what_is_in_hand(database: str) -> None:
    fill(database, *map(str, range(20)))

    async def main() -> Any:
        broker = AsyncBroker(database, pool_size=2)
        queue = broker.queue("q")
        calls = [queue.read() for _ in range(20)]
        writes = [broker.push("r", str(n)) for n in range(20)]
        tasks = [asyncio.create_task(call) for call in [*calls, *writes]]
        await asyncio.sleep(0)
        await broker.close()
        assert all(task.done() for task in tasks)
        return [task.result() for task in tasks]

    results = asyncio.run(main())
    assert sorted(results[:20], key=int) == [str(n) for n in range(20)]
    assert left(database, "r") == [str(n) for n in range(20)]


def test_a_closed_broker_refuses_and_stays_closed(database: str) -> None:
    async def main() -> None:
        broker = AsyncBroker(database)
        queue = broker.queue("q")
        await queue.write("a")
        await asyncio.gather(broker.close(), broker.close())
        await broker.close()
        watcher = queue.watch(lambda body, ident: None)
        for refused in (queue.read, lambda: queue.write("b"), broker.vacuum, queue.stats):
            with pytest.raises(UsageError, match="closed"):
                await refused()
        with pytest.raises(UsageError, match="closed"):
            watcher.start()
        assert ours() == []

    asyncio.run(main())
    assert left(database) == ["a"]


def test_closing_gives_back_what_a_stream_holds_and_the_stream_says_so(database: str) -> None:
    bodies = [str(n) for n in range(6)]
    fill(database, *bodies)

    async def main() -> None:
        broker = AsyncBroker(database)
        stream = broker.queue("q").stream(commit_interval=3)
        for body in bodies[:5]:
            assert await anext(stream) == body
        await broker.close()
        assert left(database) == bodies[3:]
        assert await anext(stream) == "5"  # it was in memory, and will come again
        with pytest.raises(UsageError, match="closed"):
            await anext(stream)
        assert ours() == []

    asyncio.run(main())
    assert left(database) == bodies[3:]


def test_a_block_that_is_left_right_after_a_stream_gives_its_batch_back(database: str) -> None:
    bodies = [str(n) for n in range(6)]
    fill(database, *bodies)

    async def main() -> None:
        async with AsyncBroker(database) as broker:
            async for _ in broker.queue("q").stream(commit_interval=3):
                break
        assert left(database) == bodies
        assert Queue("q", database).stats().running == 0

    asyncio.run(main())


def test_closing_gives_up_on_what_the_store_does_not_let_in(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerrun.aio.pool.GRACE_SECONDS", 0.2)
    fill(database, "a")

    async def main() -> None:
        broker = AsyncBroker(database, pool_size=1)
        calls: list[Coroutine[Any, Any, object]] = [broker.peek("q"), broker.pop("q")]
        with store_locked(broker):
            tasks = [asyncio.create_task(call) for call in [*calls, broker.push("q", "b")]]
            await fact(ours)
            begun = time.monotonic()
            await broker.close()
            assert time.monotonic() - begun < 3
        begun_before, *refused = await asyncio.gather(*tasks, return_exceptions=True)
        assert begun_before == "a"
        assert [type(result) for result in refused] == [UsageError, UsageError]
        await fact(lambda: ours() == [])

    asyncio.run(main())
    assert left(database) == ["a"]


# ----------------------------------------------------------------------------------- threads


def test_no_more_threads_than_the_pool_has_work_at_once(database: str) -> None:
    inside, most = [0], [0]
    lock, gate = threading.Lock(), threading.Event()

    def handle(body: str, ident: int) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        gate.wait(20)
        with lock:
            inside[0] -= 1

    async def main() -> None:
        async with AsyncBroker(database, pool_size=3) as broker:
            for n in range(6):
                await broker.push(f"q{n}", "x")
            watchers = [broker.watch(f"q{n}", handle) for n in range(6)]
            for watcher in watchers:
                watcher.start()
            await fact(lambda: inside[0] == 3)
            reads = [asyncio.create_task(broker.pop("q5")) for _ in range(20)]
            await asyncio.sleep(0)
            assert len([name for name in ours() if name != "brokerrun-aio-waiting"]) == 3
            gate.set()
            await asyncio.gather(*reads)

    asyncio.run(main())
    assert most == [3]
    assert ours() == []


def test_a_broker_that_is_not_used_has_no_thread_and_no_file(database: str) -> None:
    async def main() -> None:
        async with AsyncBroker(database):
            assert ours() == []

    asyncio.run(main())
    assert not Path(database).exists()


def test_a_broker_belongs_to_one_event_loop(database: str) -> None:
    broker = AsyncBroker(database)
    asyncio.run(broker.push("q", "a"))

    async def elsewhere() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await broker.pop("q")
        await broker.close()

    asyncio.run(elsewhere())
    assert ours() == []
    assert left(database) == ["a"]


# ------------------------------------------------------------------------------ never closed

NEVER_CLOSED = """
import asyncio
from brokerrun.aio import AsyncBroker

async def follow(broker):
    async for message in broker.queue("q"):
        print(message, flush=True)
        {then}

async def main():
    broker = AsyncBroker("queue.db")
    watcher = broker.watch("w", lambda body, ident: None)
    task = watcher.start()
    await broker.push("q", "a")
    try:
        await asyncio.wait_for(follow(broker), 0.3)
    except TimeoutError:
        pass

{run}
"""


@pytest.mark.parametrize(
    ("then", "run", "quiet"),
    [
        ("pass", "asyncio.run(main())", True),
        ("break", "asyncio.run(main())", True),
        # asyncio itself complains of these two.
        ("raise SystemExit(0)", "asyncio.run(main())", False),
        ("pass", "loop = asyncio.new_event_loop(); loop.run_until_complete(main())", False),
    ],
)
def test_a_program_that_never_closes_ends_all_the_same(
    tmp_path: Path, then: str, run: str, quiet: bool
) -> None:
    program = NEVER_CLOSED.format(then=then, run=run)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "a\n")
    assert "a watcher of" not in done.stderr
    assert not quiet or done.stderr == ""


def test_the_waiting_thread_ends_with_its_event_loop(database: str) -> None:
    async def main() -> None:
        broker = AsyncBroker(database)
        tasks.append(broker)
        waiting = asyncio.create_task(anext(aiter(broker.queue("q"))))
        await fact(lambda: "brokerrun-aio-waiting" in ours())
        await asyncio.wait([waiting], timeout=0.05)

    tasks: list[Any] = []
    asyncio.run(main())
    eventually(lambda: "brokerrun-aio-waiting" not in ours())
    tasks.clear()
    eventually(lambda: ours() == [])


# -------------------------------------------------------------------------- the file is gone


def test_those_who_wait_hear_that_the_database_was_deleted(database: str) -> None:
    async def main() -> None:
        async with AsyncBroker(database) as broker:
            await broker.push("q", "a")
            tasks = [asyncio.create_task(anext(aiter(broker.queue(queue)))) for queue in ("r", "s")]
            watcher = broker.watch("t", lambda body, ident: None)
            watcher.start()
            await fact(lambda: "brokerrun-aio-waiting" in ours())
            await asyncio.wait(tasks, timeout=0.1)
            for name in (database, database + "-wal"):
                os.unlink(name)
            results = await asyncio.wait_for(
                asyncio.gather(*tasks, return_exceptions=True), timeout=10
            )
            assert [type(result) for result in results] == [StoreGone] * 2
            await fact(lambda: not watcher.is_running())
            assert isinstance(watcher.error, StoreGone)

    asyncio.run(main())
    assert ours() == []
