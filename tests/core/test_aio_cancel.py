"""A task that is cancelled loses no message: what it was about to get goes back to its place."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from support import Child, eventually
from tasks import cancelled, fact, ours, store_locked, turns, use
from watched import fill, left

from brokerrun.aio import AsyncBroker, AsyncQueue
from brokerrun.core.model import Selection
from brokerrun.core.queue import Queue

VACUUMS = {"BROKER_AUTO_VACUUM_INTERVAL": 1, "BROKER_VACUUM_THRESHOLD": 0}
KEEPS = {"BROKER_AUTO_VACUUM": 0}


# ---------------------------------------------------------------------------- at a named moment


@pytest.mark.parametrize("config", [VACUUMS, KEEPS], ids=["vacuums", "keeps"])
def test_a_read_that_is_cancelled_in_a_thread_ends_with_its_message_back(
    database: str, config: dict[str, object]
) -> None:
    ids = fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        task = asyncio.create_task(queue.read())
        with store_locked(broker):
            await fact(ours)
            await turns(10)
            task.cancel()
            await turns(10)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [pair async for pair in queue.stream(with_timestamps=True)] == list(
            zip("ab", ids, strict=True)
        )

    use(database, work, config=config)


def test_a_read_that_no_thread_has_begun_is_not_done(database: str) -> None:
    fill(database, "a")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        with store_locked(broker):
            begun = asyncio.create_task(queue.peek())
            await turns(3)
            task = asyncio.create_task(queue.read())
            await turns(3)
            task.cancel()
            await turns(3)
            assert task.cancelled()
        assert await begun == "a"
        assert (await queue.stats()).claimed == 0

    use(database, work, pool_size=1)


@pytest.mark.parametrize("config", [VACUUMS, KEEPS], ids=["vacuums", "keeps"])
def test_a_read_that_is_cancelled_when_its_message_is_on_the_way_puts_it_back(
    database: str, config: dict[str, object]
) -> None:
    fill(database, "a")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        task = asyncio.create_task(queue.read())
        await turns(2)
        # This thread keeps the loop: the answer lies there, and the task cannot have it.
        eventually(lambda: Queue("q", database).peek() is None)
        await cancelled(task)
        assert await queue.read() == "a"

    use(database, work, config=config)


def test_a_second_cancel_changes_nothing(database: str) -> None:
    fill(database, "a")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        task = asyncio.create_task(queue.read())
        with store_locked(broker):
            await turns(5)
            await fact(ours)
            for _ in range(3):
                task.cancel()
                await turns(5)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await queue.read() == "a"

    use(database, work)


def test_a_time_limit_loses_nothing(database: str) -> None:
    fill(database, "a")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.read(), 0)
        for _ in range(20):
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(0.0002):
                    assert await queue.read() == "a"
                    await queue.write("a")
        assert (await queue.stats()).pending <= 1

    use(database, work)


def test_a_stream_that_is_left_gives_its_batch_back(database: str) -> None:
    bodies = [str(n) for n in range(10)]
    fill(database, *bodies)

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        async with contextlib.aclosing(queue.stream(commit_interval=4)) as stream:
            async for body in stream:
                if body == "5":
                    break
        assert left(database) == bodies[4:]
        async for _ in queue.stream(commit_interval=4):
            break
        await fact(lambda: Queue("q", database).stats().running == 0)
        assert [body async for body in queue.stream(commit_interval=4)] == bodies[4:]

    use(database, work)


def test_a_batch_is_given_back_in_a_thread(database: str) -> None:
    fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        stream = broker.queue("q").stream(commit_interval=2)
        await anext(stream)
        with store_locked(broker):
            task = asyncio.create_task(stream.aclose())
            await turns(10)
            assert not task.done()
        await task
        assert (await broker.queue("q").stats()).running == 0

    use(database, work)


def test_a_stream_that_is_cancelled_gives_its_batch_back(database: str) -> None:
    bodies = [str(n) for n in range(10)]
    fill(database, *bodies)
    seen: list[str] = []

    async def consume(queue: AsyncQueue) -> None:
        async for body in queue.stream(commit_interval=4):
            seen.append(body)
            if body == "5":
                await asyncio.Event().wait()

    async def work(broker: AsyncBroker) -> None:
        task = asyncio.create_task(consume(broker.queue("q")))
        await fact(lambda: seen[-1:] == ["5"])
        await cancelled(task)
        await fact(lambda: Queue("q", database).stats().running == 0)
        with Queue("q", database).call() as sync:
            back = sync.store.look("q", Selection(limit=None))
        assert [(message.body, message.attempts) for message in back] == [
            (body, 0) for body in bodies[4:]
        ]

    use(database, work)


def test_a_write_that_no_thread_has_begun_is_not_stored(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        kept = asyncio.create_task(queue.write("kept"))
        task = asyncio.create_task(queue.write("cancelled"))
        await turns(1)
        task.cancel()
        await kept
        with pytest.raises(asyncio.CancelledError):
            await task

    use(database, work)
    assert left(database) == ["kept"]


def test_a_loop_that_ends_puts_back_what_its_tasks_were_about_to_get(database: str) -> None:
    bodies = [str(n) for n in range(300)]
    fill(database, *bodies)
    seen: list[str] = []

    async def main() -> None:
        broker = AsyncBroker(database)  # never closed

        async def consume(commit_interval: int) -> None:
            async for body in broker.queue("q").stream(commit_interval=commit_interval):
                seen.append(body)

        tasks = [asyncio.create_task(consume(1)) for _ in range(5)]
        while len(seen) < 100:
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)

    asyncio.run(main())
    assert sorted([*seen, *left(database)]) == sorted(bodies)
    assert left(database) == sorted(left(database), key=int)


# --------------------------------------------------------------------------- at a random moment


async def read(queue: AsyncQueue, got: list[str]) -> None:
    while (body := await queue.read()) is not None:
        got.append(body)


async def stream(queue: AsyncQueue, got: list[str]) -> None:
    async for body in queue.stream():
        got.append(body)


async def follow(queue: AsyncQueue, got: list[str]) -> None:
    async for body in queue:
        got.append(body)


async def watch(queue: AsyncQueue, got: list[str]) -> None:
    async def handle(body: str, _: int) -> None:
        await asyncio.sleep(0.0005)
        got.append(body)

    async with queue.watch(handle):
        await asyncio.Event().wait()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [VACUUMS, KEEPS], ids=["vacuums", "keeps"])
@pytest.mark.parametrize("way", [read, stream, follow, watch])
def test_whatever_is_cancelled_each_message_is_got_once_or_there(
    database: str, way: Any, config: dict[str, object], seed: int
) -> None:
    bodies = [f"{n:03}" for n in range(400)]
    fill(database, *bodies)
    dice, got = random.Random(seed), list[str]()

    async def work(broker: AsyncBroker) -> None:
        for _ in range(12):
            tasks = [asyncio.create_task(way(broker.queue("q"), got)) for _ in range(8)]
            for task in dice.sample(tasks, len(tasks)):
                await asyncio.sleep(dice.expovariate(500))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    use(database, work, config=config)
    assert len(got) > 8
    assert sorted([*got, *left(database)]) == bodies
    assert left(database) == sorted(left(database))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_cancelled_a_batch_is_committed_whole_or_there(
    database: str, seed: int
) -> None:
    bodies = [f"{n:03}" for n in range(400)]
    fill(database, *bodies)
    dice, done = random.Random(seed), list[str]()

    async def consume(queue: AsyncQueue) -> None:
        batch: list[str] = []
        async for body in queue.stream(commit_interval=5):
            if len(batch) == 5:  # the one behind a batch was given: it is committed
                done.extend(batch)
                batch.clear()
            batch.append(body)

    async def work(broker: AsyncBroker) -> None:
        for _ in range(12):
            tasks = [asyncio.create_task(consume(broker.queue("q"))) for _ in range(8)]
            for task in dice.sample(tasks, len(tasks)):
                await asyncio.sleep(dice.expovariate(300))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    use(database, work)
    there = left(database)
    assert len(done) == len(set(done))
    assert not set(done) & set(there)
    # A commit that was under way when its task was cancelled is one the task does not know of.
    unknown = set(bodies) - set(done) - set(there)
    assert len(unknown) % 5 == 0
    assert there == sorted(there)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_cancelled_many_messages_are_all_stored_or_none(
    database: str, seed: int
) -> None:
    dice, told = random.Random(seed), set[str]()

    async def write(queue: AsyncQueue, name: str) -> None:
        await queue.write_many([f"{name} {n}" for n in range(3)])
        told.add(name)

    async def work(broker: AsyncBroker) -> None:
        for turn in range(20):
            tasks = [
                asyncio.create_task(write(broker.queue("q"), f"{turn}.{n}")) for n in range(10)
            ]
            for task in dice.sample(tasks, 5):
                await asyncio.sleep(dice.expovariate(2000))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    use(database, work)
    stored = [body.split()[0] for body in left(database)]
    assert told <= set(stored)
    assert len(told) >= 100
    assert all(stored.count(name) == 3 for name in stored)


def test_a_move_that_is_cancelled_is_done_or_not(database: str) -> None:
    bodies = [f"{n:03}" for n in range(100)]
    fill(database, *bodies)
    dice = random.Random(1)

    async def move(broker: AsyncBroker) -> None:
        while await broker.move("q", "r"):
            pass

    async def work(broker: AsyncBroker) -> None:
        for _ in range(30):
            task = asyncio.create_task(move(broker))
            await asyncio.sleep(dice.expovariate(500))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    use(database, work)
    assert [*left(database, "r"), *left(database)] == bodies


# ------------------------------------------------------------------------------------ killed


def test_a_stream_that_is_killed_leaves_its_batch_to_others(database: str) -> None:
    bodies = [str(n) for n in range(100)]
    fill(database, *bodies)

    def other(talk: Any) -> None:
        async def consume(broker: AsyncBroker) -> None:
            async for body in broker.queue("q").stream(commit_interval=20):
                if body == "30":
                    talk.send(body)
                    await asyncio.Event().wait()

        use(database, consume)

    child = Child(other)
    assert child.hear() == "30"
    assert Queue("q", database).read() == "40"
    child.kill()

    async def work(broker: AsyncBroker) -> list[str]:
        got: list[str] = []
        task = asyncio.create_task(follow(broker.queue("q"), got))
        await fact(lambda: len(got) == 79)
        await cancelled(task)
        return got

    got = use(database, work)
    assert sorted(got, key=int) == [*bodies[20:40], *bodies[41:]]


def test_those_who_wait_get_what_a_killed_process_held(database: str) -> None:
    fill(database, "a", "b")

    def other(talk: Any) -> None:
        async def hold(broker: AsyncBroker) -> None:
            async for body in broker.queue("q").stream(commit_interval=2):
                talk.send(body)
                await asyncio.Event().wait()

        use(database, hold)

    async def work(broker: AsyncBroker) -> None:
        got: list[str] = []
        task = asyncio.create_task(follow(broker.queue("q"), got))
        await fact(lambda: "brokerrun-aio-waiting" in ours())
        child.kill()
        await fact(lambda: sorted(got) == ["a", "b"])
        await cancelled(task)

    child = Child(other)
    assert child.hear() == "a"
    use(database, work)


@pytest.mark.parametrize("first", [True, False])
def test_a_task_may_write_while_its_loop_ends(database: str, first: bool) -> None:
    async def farewell(broker: AsyncBroker) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await broker.push("q", "farewell")

    async def main() -> None:
        broker = AsyncBroker(database)
        kept.append(asyncio.create_task(farewell(broker)))
        if first:
            kept.append(asyncio.create_task(broker.push("r", "cancelled")))
        await asyncio.sleep(0)

    kept: list[Any] = []
    asyncio.run(main())
    assert left(database) == ["farewell"]
