"""A watcher in the background of an event loop: who handles, what of errors, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from tasks import fact, store_locked, use
from watched import Seen, failing, fill, left, noting

from brokerrun.aio import AsyncBroker, AsyncWatcher
from brokerrun.core.queue import Queue
from brokerrun.errors import UsageError

# ------------------------------------------------------------------------------ who handles


def test_a_coroutine_function_runs_in_the_loop_and_another_in_a_thread(database: str) -> None:
    ids = fill(database, "a", "b")
    fill(database, "c", queue="r")
    fill(database, "d", queue="s")
    where: dict[str, threading.Thread] = {}

    async def handle(body: str, ident: int) -> None:
        assert ident in ids
        await asyncio.sleep(0)
        where[body] = threading.current_thread()

    def block(body: str, ident: int) -> None:
        where[body] = threading.current_thread()

    async def later(body: str) -> None:
        where[body] = threading.current_thread()

    async def work(broker: AsyncBroker) -> None:
        async with (
            broker.watch("q", handle),
            broker.watch("r", block),
            broker.queue("s").watch(lambda body, ident: later(body)),
        ):
            await fact(lambda: len(where) == 4)

    use(database, work)
    assert where["a"] is where["b"] is where["d"] is threading.main_thread()
    assert where["c"].name.startswith("brokerrun-aio_")


def test_messages_are_handled_one_at_a_time_in_their_order(database: str) -> None:
    bodies = [str(n) for n in range(30)]
    fill(database, *bodies[:10])
    seen: list[str] = []
    inside: list[str] = []

    async def handle(body: str, ident: int) -> None:
        inside.append(body)
        await asyncio.sleep(0.001)
        assert inside == [body]
        inside.clear()
        seen.append(body)

    async def work(broker: AsyncBroker) -> None:
        async with broker.watch("q", handle):
            for body in bodies[10:]:
                await broker.push("q", body)
            await fact(lambda: len(seen) == len(bodies))

    use(database, work)
    assert seen == bodies


def test_the_loop_goes_on_while_a_handler_blocks_its_thread(database: str) -> None:
    fill(database, "a")
    gate, inside = threading.Event(), threading.Event()

    def block(body: str, ident: int) -> None:
        inside.set()
        gate.wait(20)

    async def work(broker: AsyncBroker) -> None:
        async with broker.watch("q", block):
            await fact(inside.is_set)
            await broker.push("r", "b")
            assert await broker.pop("r") == "b"
            gate.set()

    use(database, work)


# ------------------------------------------------------------------------------------- errors


async def failing_later(body: str, ident: int) -> None:
    await asyncio.sleep(0)
    failing(body, ident)


@pytest.mark.parametrize("handler", [failing, failing_later])
def test_a_failure_is_logged_with_its_traceback_and_the_watcher_goes_on(
    database: str, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ids = fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        async with broker.watch("q", handler) as watcher:
            await fact(lambda: len(caplog.records) == 2)
            assert watcher.is_running()
            assert watcher.error is None

    use(database, work)
    for record, ident in zip(caplog.records, ids, strict=True):
        assert (record.name, record.levelno) == ("brokerrun", logging.ERROR)
        assert record.getMessage() == f"message {ident} of q: the handler failed"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)
    assert left(database) == []


def test_the_error_handler_gets_error_message_and_id_and_may_end_it(database: str) -> None:
    first, second, _ = fill(database, "a", "b", "c")
    told: list[Any] = []

    def note(error: Exception, body: str, ident: int) -> bool:
        told.append((str(error), body, ident))
        return body == "a"

    async def work(broker: AsyncBroker) -> None:
        watcher = broker.watch("q", failing, error_handler=note)
        await watcher.start()
        assert (watcher.is_running(), watcher.error) == (False, None)

    use(database, work)
    assert told == [("cannot do a", "a", first), ("cannot do b", "b", second)]
    assert left(database) == ["c"]


def test_an_error_handler_may_be_a_coroutine_function(database: str) -> None:
    fill(database, "a", "b")

    async def end(error: Exception, body: str, ident: int) -> bool:
        await asyncio.sleep(0)
        return False

    async def work(broker: AsyncBroker) -> None:
        await broker.watch("q", failing_later, error_handler=end).start()

    use(database, work)
    assert left(database) == ["b"]


def test_an_error_handler_that_fails_is_logged_with_both_tracebacks(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, "a")

    def fails_too(error: Exception, body: str, ident: int) -> None:
        raise KeyError(body)

    async def work(broker: AsyncBroker) -> None:
        async with broker.watch("q", failing, error_handler=fails_too) as watcher:
            await fact(lambda: caplog.records)
            assert watcher.is_running()

    use(database, work)
    assert caplog.records[0].getMessage().endswith("the handler failed, and its error handler")
    assert "cannot do a" in caplog.text
    assert "KeyError: 'a'" in caplog.text


def test_a_busy_store_is_waited_for(database: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(database, "a")
    seen: Seen = []

    async def work(broker: AsyncBroker) -> None:
        async with broker.watch("q", noting(seen)) as watcher:
            with store_locked(broker):
                await fact(lambda: "waits" in caplog.text)
            await fact(lambda: seen)
            assert watcher.error is None

    use(database, work, config={"BROKER_BUSY_TIMEOUT": 50})
    assert [body for body, _ in seen] == ["a"]


# ----------------------------------------------------------------------------------- stopping


def test_a_stopped_watcher_takes_no_other_message(database: str) -> None:
    seen: Seen = []

    async def work(broker: AsyncBroker) -> None:
        watcher = broker.watch("q", noting(seen))
        task = watcher.start()
        await broker.push("q", "a")
        await fact(lambda: seen)
        begun = time.monotonic()
        await watcher.stop()
        assert time.monotonic() - begun < 1
        assert task.done()
        await broker.push("q", "b")
        await watcher.stop()
        with pytest.raises(UsageError, match="make a new one"):
            watcher.start()

    use(database, work)
    assert left(database) == ["b"]


def test_the_message_in_hand_is_finished(database: str) -> None:
    fill(database, "a", "b")
    begun, done = threading.Event(), list[str]()

    async def handle(body: str, ident: int) -> None:
        begun.set()
        await asyncio.sleep(0.2)
        done.append(body)

    async def work(broker: AsyncBroker) -> None:
        watcher = broker.watch("q", handle)
        watcher.start()
        await fact(begun.is_set)
        await watcher.stop()

    use(database, work)
    assert done == ["a"]
    assert left(database) == ["b"]


def test_a_coroutine_that_takes_too_long_is_cancelled_and_its_message_put_back(
    database: str,
) -> None:
    ids = fill(database, "a", "b")
    begun = threading.Event()

    async def handle(body: str, ident: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def work(broker: AsyncBroker) -> None:
        watcher = broker.watch("q", handle)
        watcher.start()
        await fact(begun.is_set)
        await watcher.stop(timeout=0.05)
        assert not watcher.is_running()

    use(database, work)
    assert Queue("q", database).peek_many(with_timestamps=True) == list(zip("ab", ids, strict=True))


def test_a_thread_that_takes_too_long_keeps_its_message(database: str) -> None:
    fill(database, "a", "b")
    begun, gate = threading.Event(), threading.Event()

    def block(body: str, ident: int) -> None:
        begun.set()
        gate.wait(20)

    async def work(broker: AsyncBroker) -> None:
        watcher = broker.watch("q", block)
        watcher.start()
        await fact(begun.is_set)
        await watcher.stop(timeout=0.05)
        assert watcher.is_running()
        gate.set()
        await fact(lambda: not watcher.is_running())

    use(database, work)
    assert left(database) == ["b"]


def test_a_handler_may_stop_its_own_watcher(database: str) -> None:
    fill(database, "a", "b")

    async def work(broker: AsyncBroker) -> None:
        async def handle(body: str, ident: int) -> None:
            await watcher.stop()

        watcher: AsyncWatcher = broker.watch("q", handle)
        await asyncio.wait_for(watcher.start(), 10)

    use(database, work)
    assert left(database) == ["b"]


def test_closing_the_broker_lets_a_handler_finish_its_work_with_it(database: str) -> None:
    fill(database, "a", "b")
    begun = threading.Event()

    async def work(broker: AsyncBroker) -> None:
        async def handle(body: str, ident: int) -> None:
            begun.set()
            await asyncio.sleep(0.1)
            await broker.push("r", f"{body} done")

        broker.watch("q", handle).start()
        await fact(begun.is_set)
        await broker.close()

    use(database, work)
    assert left(database, "r") == ["a done"]
    assert left(database) == ["b"]
