"""asyncio: every name of the documents, what it answers, and that it is the same queue as ever."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import Child, eventually
from tasks import fact, store_locked, turns, use
from watched import fill, left

from brokerrun.aio import AsyncBroker, AsyncQueue, async_broker
from brokerrun.core.queue import Queue
from brokerrun.core.target import target_for_directory
from brokerrun.errors import ArgumentError, MessageError, QueueNameError, UsageError

# ------------------------------------------------------------------------------- names and shapes


def test_what_is_pushed_is_popped_in_its_order(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        ids = [await broker.push("q", body) for body in "ab"]
        assert ids == sorted(set(ids))
        assert [await broker.pop("q") for _ in range(3)] == ["a", "b", None]

    use(database, work)


def test_write_and_read_are_push_and_pop(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        await broker.write("q", "a")
        assert (await broker.peek("q"), await broker.read("q")) == ("a", "a")
        assert (await broker.peek("q"), await broker.read("q")) == (None, None)

    use(database, work)


def test_a_queue_reads_and_shows_one_message_or_the_one_meant(database: str) -> None:
    first, second, third = fill(database, "a", "b", "c")

    async def work(broker: AsyncBroker) -> None:
        queue = AsyncQueue("q", broker)
        assert await queue.peek(with_timestamps=True) == ("a", first)
        assert await queue.peek(message_id=second) == "b"
        assert await queue.read(after_timestamp=first, with_timestamps=True) == ("b", second)
        assert await queue.read(message_id=str(third)) == "c"
        assert await queue.read(before_timestamp=third) == "a"

    use(database, work)


def test_a_queue_is_counted_and_deleted(database: str) -> None:
    first, _ = fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        stats = await queue.stats()
        assert (stats.pending, stats.total, await queue.exists()) == (2, 2, True)
        assert await queue.delete(message_id=first)
        assert not await queue.delete(message_id=first)
        assert await queue.delete()
        assert not await queue.exists()

    use(database, work)


def test_a_delay_and_a_priority_are_kept(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        await queue.write("later", delay=3600)
        await queue.write_many(["low", "lower"], priority=5)
        await queue.write("high", priority=-5)
        assert [body async for body in queue.stream()] == ["high", "low", "lower"]
        assert await queue.peek() == "later"

    use(database, work)


def test_a_broker_moves_lists_broadcasts_and_vacuums(database: str) -> None:
    first, second = fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        assert await broker.move("q", "r") == {"message": "a", "timestamp": first}
        other = broker.queue("r")
        assert await broker.queue("q").move(other, message_id=second) == {
            "message": "b",
            "timestamp": second,
        }
        assert await broker.move("q", "r") is None
        assert await broker.list_queues() == [("r", 2)]
        assert await broker.broadcast("all") == 1
        assert await broker.broadcast("none", pattern="x*") == 0
        assert [body async for body in broker.stream_read("r")] == ["a", "b", "all"]
        assert await broker.vacuum() == 3
        assert await broker.vacuum(compact=True) == 0

    use(database, work)


@pytest.mark.parametrize("commit_interval", [1, 2, 100])
def test_a_stream_gives_all_that_is_ready_once(database: str, commit_interval: int) -> None:
    bodies = [str(number) for number in range(5)]
    ids = fill(database, *bodies)

    async def work(broker: AsyncBroker) -> Any:
        stream = broker.queue("q").stream(commit_interval=commit_interval, with_timestamps=True)
        return [pair async for pair in stream]

    assert use(database, work) == list(zip(bodies, ids, strict=True))
    assert left(database) == []


def test_a_stream_keeps_to_its_bounds(database: str) -> None:
    first, _, third = fill(database, "a", "b", "c")

    async def work(broker: AsyncBroker) -> Any:
        queue = broker.queue("q")
        stream = queue.stream(commit_interval=10, after_timestamp=first, before_timestamp=third)
        return [body async for body in stream]

    assert use(database, work) == ["b"]
    assert left(database) == ["a", "c"]


def test_an_alias_is_followed_to_its_queue(database: str) -> None:
    fill(database, "a")
    with Queue("q", database).call() as broker:
        broker.store.add_alias("work", "q")

    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("@work")
        await queue.write("b")
        taken = [body async for body in first(2, queue)]
        assert taken == ["a", "b"]

    use(database, work)


async def first(count: int, queue: AsyncQueue) -> AsyncIterator[str]:
    """Follow a queue for so many messages."""
    async with contextlib.aclosing(aiter(queue)) as messages:
        async for message in messages:
            yield message
            count -= 1
            if not count:
                return


@pytest.mark.parametrize("place", ["text", "Path", "target", "nothing"])
def test_the_place_is_what_a_queue_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".broker.db"
    places = {"text": str(path), "Path": path, "target": target_for_directory(tmp_path)}
    use(places.get(place), lambda broker: broker.push("q", "a"))  # type: ignore[arg-type]
    assert left(str(path)) == ["a"]


def test_the_configuration_is_that_broker_s_alone(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        with pytest.raises(MessageError, match="at most 100 are allowed"):
            await broker.push("q", "x" * 101)

    use(database, work, config={"BROKER_MAX_MESSAGE_SIZE": 100, "BROKER_SYNC_MODE": "EXTRA"})


def test_what_cannot_be_meant_is_refused_before_anything_is_done(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        with pytest.raises(ArgumentError, match="commit_interval"):
            queue.stream(commit_interval="2")  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="commit_interval: expected at least 1, got 0"):
            queue.stream(commit_interval=0)
        with pytest.raises(ArgumentError, match="messages"):
            await queue.write_many("ab")
        with pytest.raises(QueueNameError):
            await broker.push("-q", "a")
        with pytest.raises(UsageError, match="itself"):
            await broker.move("q", "q")
        with pytest.raises(ArgumentError, match="broker"):
            AsyncQueue("q", database)  # type: ignore[arg-type]

    use(database, work)
    for size, error in [(0, UsageError), ("10", ArgumentError), (True, ArgumentError)]:
        with pytest.raises(error, match="pool_size"):
            AsyncBroker(database, pool_size=size)  # type: ignore[arg-type]
    assert not Path(database).exists()


def test_the_module_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, brokerrun.aio\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(names - set(sys.stdlib_module_names) - {'__mp_main__'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert "brokerrun" in done.stdout.split()
    strangers = [name for name in done.stdout.split() if not name.startswith(("_", "brokerrun"))]
    assert strangers == [], done.stderr


def test_brokerrun_itself_does_not_load_asyncio() -> None:
    code = "import sys, brokerrun; brokerrun.Queue; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_other_name_of_the_broker_is_the_same() -> None:
    assert async_broker is AsyncBroker


# ------------------------------------------------------------------------- writes that go together


def test_writes_that_wait_at_the_same_time_are_one_transaction(database: str) -> None:
    async def work(broker: AsyncBroker) -> list[int]:
        return await asyncio.gather(*(broker.push("q", str(n)) for n in range(100)))

    ids = use(database, work)
    # One transaction numbers its messages without a gap; those of two lie apart as the clock does.
    assert ids == list(range(ids[0], ids[0] + 100))
    assert left(database) == [str(n) for n in range(100)]


def test_what_comes_during_a_transaction_goes_into_the_next_one(database: str) -> None:
    async def work(broker: AsyncBroker) -> list[int]:
        with store_locked(broker):
            tasks = [asyncio.create_task(broker.push("q", "first"))]
            await turns(3)  # a thread has it
            for n in range(50):
                tasks.append(asyncio.create_task(broker.push("q", str(n))))
                await turns(3)
        return await asyncio.gather(*tasks)

    lone, *ids = use(database, work)
    assert ids == list(range(ids[0], ids[0] + 50))
    assert lone + 1 < ids[0]


def test_a_transaction_has_no_more_than_a_thousand_messages(database: str) -> None:
    async def work(broker: AsyncBroker) -> list[int]:
        return await asyncio.gather(*(broker.push("q", "x") for _ in range(1500)))

    ids = use(database, work)
    assert ids[:1000] == list(range(ids[0], ids[0] + 1000))
    assert ids[1000:] == list(range(ids[1000], ids[1000] + 500))
    assert ids[999] + 1 < ids[1000]


@pytest.mark.parametrize("body", ["\ud800", b"bytes", "x" * 101])
def test_a_refused_write_fails_alone(database: str, body: Any) -> None:
    async def work(broker: AsyncBroker) -> list[Any]:
        writes = [broker.push("q", each) for each in ("a", body, "b")]
        return await asyncio.gather(*writes, return_exceptions=True)

    stored, refused, other = use(database, work, config={"BROKER_MAX_MESSAGE_SIZE": 100})
    assert isinstance(refused, MessageError)
    assert other == stored + 1
    assert left(database) == ["a", "b"]


def test_many_messages_of_one_write_are_all_or_none(database: str) -> None:
    async def work(broker: AsyncBroker) -> None:
        queue = broker.queue("q")
        lone, several = await asyncio.gather(queue.write("a"), queue.write_many(list("bcd")))
        assert several == [lone + 1, lone + 2, lone + 3]
        with pytest.raises(MessageError):
            await queue.write_many(["e", "\ud800"])
        assert await queue.write_many([]) == []

    use(database, work)
    assert left(database) == list("abcd")


def test_queues_wait_their_turn_whatever_another_writes(database: str) -> None:
    async def work(broker: AsyncBroker) -> list[Any]:
        writes = [broker.push(f"q{n % 5}", str(n)) for n in range(100)]
        return await asyncio.gather(*writes, broker.push("@none", "x"), return_exceptions=True)

    *ids, refused = use(database, work)
    assert isinstance(refused, UsageError)
    assert len(set(ids)) == 100
    for n in range(5):
        assert left(database, f"q{n}") == [str(m) for m in range(n, 100, 5)]


# ------------------------------------------------------------------------------ shared with others


def test_another_process_and_this_one_share_the_queues(database: str) -> None:
    def other(talk: Any) -> None:
        queue = Queue("q", database)
        queue.write("to the tasks")
        talk.send(eventually(Queue("answers", database).read, within=20))

    async def work(broker: AsyncBroker) -> str:
        async for message in first(1, AsyncQueue("q", broker)):
            await broker.push("answers", f"{message}: got it")
        return await asyncio.to_thread(child.hear)

    child = Child(other)
    assert use(database, work) == "to the tasks: got it"
    child.ends_well()


def test_a_follower_hears_of_what_this_process_writes_in_whichever_way(database: str) -> None:
    async def work(broker: AsyncBroker) -> list[str]:
        got: list[str] = []

        async def follow() -> None:
            async for message in first(3, broker.queue("q")):
                got.append(message)

        task = asyncio.create_task(follow())
        await broker.push("q", "task")
        await fact(lambda: got == ["task"])
        await asyncio.to_thread(fill, database, "thread")
        await fact(lambda: got == ["task", "thread"])
        await broker.queue("q").write("later", delay=0.05)
        await asyncio.wait_for(task, 10)
        return got

    assert use(database, work) == ["task", "thread", "later"]


def test_one_message_is_given_to_one_of_many_followers(database: str) -> None:
    bodies = [str(n) for n in range(60)]

    async def work(broker: AsyncBroker) -> list[str]:
        got: list[str] = []

        async def follow() -> None:
            async for message in broker.queue("q"):
                got.append(message)

        tasks = [asyncio.create_task(follow()) for _ in range(5)]
        for body in bodies:
            await broker.push("q", body)
        await fact(lambda: len(got) >= len(bodies))
        await broker.close()
        await asyncio.gather(*tasks)
        return got

    assert sorted(use(database, work)) == sorted(bodies)
