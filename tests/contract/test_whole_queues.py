"""What `brokerrun.core.store` promises of drafts, whole queues, aliases and waits."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection as Talk
from typing import Any

import pytest
from support import Child, eventually, sleeps

from brokerrun.core.backends import open_store
from brokerrun.core.ids import now_ns
from brokerrun.core.model import (
    Claim,
    Draft,
    Held,
    Message,
    QueueStats,
    Selection,
    Settlement,
    Summary,
    Wanted,
)
from brokerrun.core.owners import new_guardian
from brokerrun.core.settings import Settings, Threshold
from brokerrun.core.states import Event, State
from brokerrun.core.store import Store
from brokerrun.errors import AliasError, MessageError, UsageError

EVERY = Selection(limit=None)
HOUR = 3600 * 10**9


def claims(store: Store, queue: str = "q", limit: int = 1, **more: Any) -> list[Claim]:
    return store.work([], Wanted(queue, owner=new_guardian(), limit=limit, **more))[1]


def bodies(store: Store, queue: str = "q", selection: Selection = EVERY) -> list[str]:
    return [message.body for message in store.look(queue, selection)]


def by_name(store: Store) -> dict[str, int]:
    return {stats.queue: stats.total for stats in store.queues()}


# ---------------------------------------------------------------------------------- drafts, load


def test_drafts_have_each_its_delay_and_priority(store: Store) -> None:
    ids = store.put_drafts("q", [Draft("a", 3600), Draft("b", 0.0, 7), Draft("c", 0.0, -7)])
    assert ids == sorted(set(ids))
    assert bodies(store) == ["c", "a", "b"]
    assert [m.body for m in store.take("q", EVERY)] == ["c", "b"]


def test_what_is_loaded_is_as_it_was(store: Store) -> None:
    later = now_ns() + HOUR
    given = [
        Message(1795545666661470208, "a", "q", State.READY, None, 3, -2),
        Message(1795545666661470209, "b", "q", State.READY, later, 0, 5),
        Message(1795545666661470210, "c", "r"),
    ]
    store.load(given, [("alias", "q")])
    assert store.look("q", EVERY) + store.look("r", EVERY) == given
    assert store.alias("alias") == "q"
    store.load([], [("alias", "q")])  # the same again says nothing new
    assert store.put("q", ["new"])[0] > given[-1].id


@pytest.mark.parametrize(("aliases", "error"), [([], MessageError), ([("taken", "q")], AliasError)])
def test_what_contradicts_is_not_loaded(
    store: Store, aliases: list[tuple[str, str]], error: type[Exception]
) -> None:
    store.add_alias("taken", "other")
    [there] = store.put("q", ["there"])
    again = [] if aliases else [Message(there, "x", "q")]
    with pytest.raises(error):
        store.load([Message(1795545666661470208, "new", "q"), *again], aliases)
    assert bodies(store) == ["there"]
    assert store.aliases() == [("taken", "other")]


# ------------------------------------------------------------------------------- reads taken back


def test_a_finished_read_is_done_and_counts_no_attempt(store: Store) -> None:
    store.put("q", ["a", "b"])
    lost, kept = claims(store, limit=2)
    store.work([Settlement(lost.id, lost.receipt, Event.RETRY)])
    assert store.finish([lost, kept]) == 1
    assert store.stats("q") == QueueStats("q", 1, 1, 2, oldest_at=lost.id)
    store.move("q", "back", Selection(id=kept.id))
    assert store.look("back", EVERY)[0].attempts == 0


def test_what_was_read_comes_back_in_its_place(store: Store) -> None:
    first, second, third = store.put("q", ["a", "b", "c"])
    store.take("q", Selection(limit=2))
    assert store.unread("q", [first, second, third, 17]) == 2
    assert bodies(store) == ["a", "b", "c"]
    assert store.unread("none", [first]) == 0


def test_what_was_moved_comes_back_unless_it_is_in_work(store: Store) -> None:
    ids = store.put("q", ["a", "b", "c"])
    store.move("q", "to", EVERY)
    [held] = claims(store, "to")
    assert store.unmove("q", "to", [*ids, 17]) == 2
    assert (bodies(store), bodies(store, "to")) == (["b", "c"], ["a"])
    assert store.holding(held.id, held.receipt) is not None
    assert store.unmove("q", "none", ids) == 0


# ---------------------------------------------------------------------------------------- rename


def test_a_renamed_queue_keeps_what_is_in_it_and_what_has_to_come_back(store: Store) -> None:
    store.add_alias("a", "q")
    store.put("q", ["held", "here"])
    store.put("q", ["delayed"], delay=3600)
    [held] = claims(store, hold="busy")
    [here] = claims(store)
    assert store.rename("q", "new")
    store.work([Settlement(each.id, each.receipt, Event.RETRY) for each in (held, here)])
    assert bodies(store, "new") == ["held", "here", "delayed"]
    assert store.aliases() == [("a", "new")]
    assert not store.rename("q", "other")
    assert store.put("q", ["again"])
    assert by_name(store) == {"new": 3, "q": 1}


def test_a_queue_all_of_which_is_held_elsewhere_is_renamed_too(store: Store) -> None:
    store.put("q", ["x"])
    [held] = claims(store, hold="busy")
    assert store.rename("q", "new")
    store.work([Settlement(held.id, held.receipt, Event.RELEASE)])
    assert bodies(store, "new") == ["x"]


def test_a_queue_is_not_renamed_onto_one_to_which_something_comes_back(store: Store) -> None:
    store.put("q", ["x"])
    store.put("new", ["y"])
    claims(store, "new", hold="busy")
    with pytest.raises(UsageError, match="there are messages in it"):
        store.rename("q", "new")
    assert by_name(store) == {"busy": 1, "q": 1}


# ------------------------------------------------------------------------------------- broadcast


def test_a_broadcast_asks_of_every_queue_that_holds_a_row(store: Store) -> None:
    store.put("q", ["a", "b", "c"])
    store.put("read", ["x"])
    store.put("emptied", ["x"])
    store.take("read", EVERY)
    store.delete("emptied")
    [buried] = claims(store, hold="busy")
    store.work([Settlement(buried.id, buried.receipt, Event.BURY, queue="dead")])
    claims(store, hold="busy")
    asked: list[tuple[str, bool]] = []

    def chosen(name: str, side: bool) -> bool:
        asked.append((name, side))
        return not side

    sent = store.broadcast("hello", chosen)
    assert set(asked) >= {("busy", True), ("dead", True), ("q", False), ("read", False)}
    assert [name for name, _ in sent] == ["q", "read"]
    assert [ident for _, ident in sent] == sorted({ident for _, ident in sent})
    assert bodies(store, "read") == ["hello"]
    store.move("q", "dead", Selection())  # by hand: a queue like others from now on
    assert ("dead", False) not in asked
    store.broadcast("again", chosen)
    assert ("dead", False) in asked


# --------------------------------------------------------------------------------- counts, lookers


def test_a_claim_is_found_by_its_message_or_by_its_receipt_too(store: Store) -> None:
    store.put("q", ["x"])
    [held] = claims(store, lease=60, hold="busy")
    found = store.holding(held.id, held.receipt)
    assert isinstance(found, Held)
    assert (found.id, found.queue, found.attempts) == (held.id, "q", 1)
    assert store.holding(held.id) == found
    assert store.holding(held.id, held.receipt + 1) is None
    assert store.holding(held.id + 1, held.receipt) is None
    store.work([Settlement(held.id, held.receipt, Event.RELEASE)])
    assert store.holding(held.id, held.receipt) is None
    assert store.holding(held.id) is None


def test_counts_tell_of_every_state(store: Store) -> None:
    assert store.stats("q") == QueueStats("q", 0, 0, 0)
    assert store.summary() == Summary(0, 0, store.summary().size_bytes)
    first, *_, last = store.put("q", ["read", "leased", "ready"])
    store.take("q", Selection(id=first))
    claims(store)
    [delayed] = store.put("q", ["delayed"], delay=60)
    found = store.stats("q")
    assert found == QueueStats("q", 3, 1, 4, delayed=1, running=1, oldest_at=first + 1)
    assert (found.ready, found.exists) == (1, True)
    store.delete("q", delayed)
    summary = store.summary()
    assert (summary.total, summary.newest) == (3, delayed)
    assert summary.size_bytes > 0
    assert last < delayed


def test_a_queue_exists_while_it_holds_a_row_in_any_state(store: Store) -> None:
    assert not store.exists("q")
    [ident] = store.put("q", ["x"])
    [held] = claims(store)
    assert store.exists("q")
    store.work([Settlement(held.id, held.receipt, Event.RETRY, delay=60)])
    assert store.exists("q")
    store.delete("q", ident)
    store.put("q", ["y"])
    store.take("q", EVERY)
    assert store.exists("q")
    store.vacuum()
    assert not store.exists("q")


def test_the_newest_is_the_greatest_id_in_any_state(store: Store) -> None:
    newest = Selection(newest=True)
    assert store.look("q", newest) == []
    store.put("q", ["a"], priority=-5)
    store.put("q", ["b"], priority=5)
    assert bodies(store, selection=newest) == ["b"]
    store.put("q", ["c"], delay=60, priority=9)
    assert bodies(store, selection=newest) == ["c"]
    store.put("q", ["d"], priority=-9)
    claims(store)
    assert bodies(store, selection=newest) == ["d"]


def test_pages_follow_each_other_by_priority_and_id(store: Store) -> None:
    for number in range(30):
        store.put("q", [f"{number}"], priority=number % 3 - 1, delay=number % 2 * 60)
    claims(store, limit=4)
    whole, paged, beyond = store.look("q", EVERY), [], None
    while page := store.look("q", Selection(limit=4, beyond=beyond)):
        paged += page
        beyond = (page[-1].priority, page[-1].id)
    assert paged == whole
    assert len(whole) == 30


def test_a_page_ends_where_its_bodies_are_many_bytes(store: Store) -> None:
    store.put("q", ["x" * 40] * 5)
    sizes = [len(store.look("q", Selection(limit=None, most_bytes=n))) for n in (1, 40, 41, 200)]
    assert sizes == [1, 1, 2, 5]


def test_a_claim_between_two_ids_takes_what_is_there(store: Store) -> None:
    a, b, c, d = store.put("q", ["a", "b", "c", "d"])
    assert [held.id for held in claims(store, limit=9, after=a, before=d)] == [b, c]
    assert claims(store, limit=9, after=d) == []
    assert [held.id for held in claims(store, limit=9, before=d)] == [a]


# --------------------------------------------------------------------------------------- aliases


def test_aliases_are_a_list_by_name(store: Store) -> None:
    added = [store.add_alias(*pair) for pair in (("b", "q"), ("a", "r"), ("b", "q"))]
    assert added == [True, True, False]
    assert store.aliases() == [("a", "r"), ("b", "q")]
    assert (store.alias("b"), store.alias("q")) == ("q", None)
    with pytest.raises(AliasError):
        store.add_alias("c", "a")
    assert (store.remove_alias("a"), store.remove_alias("a")) == (True, False)


# ----------------------------------------------------------------------------- vacuum and waiting


def test_a_vacuum_drops_what_was_read_in_slices(target: str) -> None:
    store = open_store(target, settings=Settings(vacuum_batch_size=7, auto_vacuum=False))
    ids = store.put("q", ["x"] * 50)
    store.take("q", Selection(limit=49))
    claims(store)
    assert store.vacuum() == 49
    assert store.vacuum() == 0
    assert store.stats("q").running == 1
    store.delete(None)
    assert store.put("q", ["y"])[0] > ids[-1]  # no id comes twice
    store.close()


def test_a_compacted_store_is_small_again(target: str) -> None:
    store = open_store(target, settings=Settings(auto_vacuum=False))
    store.put("q", ["x" * 10_000] * 200)
    store.take("q", EVERY)
    assert store.vacuum(compact=True) == 200
    path = target.partition("://")[2]
    assert os.path.getsize(path) < 200_000
    store.close()


def test_upkeep_gives_pages_back_and_obeys_the_settings(target: str) -> None:
    path = target.partition("://")[2]
    sizes = []
    for auto in (False, True):
        store = open_store(target, settings=Settings(auto_vacuum=auto, vacuum_threshold=_ANY))
        store.put("q", ["x" * 10_000] * 150)
        open_store(target, settings=Settings(auto_vacuum=False)).take("q", EVERY)
        for _ in range(3):
            store.upkeep(0)
        sizes.append(store.summary().size_bytes)
        assert (store.stats("q").claimed > 0) is not auto
        store.close()
    assert sizes[0] > 1_500_000 > 500_000 > sizes[1]
    assert os.path.exists(path)


_ANY = Threshold(0.0)


def test_a_wait_ends_where_the_probe_says_so(store: Store, target: str) -> None:
    def wait(talk: Talk) -> None:
        mine = open_store(target)
        talk.send("waits")
        mine.wait_until(lambda: mine.stats("q").total >= 2, 30)
        talk.send(time.monotonic())

    store.put("other", ["x"])
    child = Child(wait)
    child.hear()
    for body in ("one", "two"):
        eventually(lambda: sleeps(child.pid))
        assert not child._talk.poll()
        store.put("q", [body])
    begun = time.monotonic()
    assert child.hear() - begun < 1


def test_ready_is_what_a_taker_may_find(store: Store) -> None:
    assert not store.ready("q")
    a, b = store.put("q", ["a", "b"])
    assert store.ready("q")
    assert store.ready("q", Selection(after=a))
    assert not store.ready("q", Selection(after=b))
    claims(store, limit=2)
    assert not store.ready("q")
    store.put("q", ["later"], delay=0.02)
    eventually(lambda: store.ready("q"))


def test_a_finished_move_begins_a_new_life_in_its_target(store: Store) -> None:
    store.put("q", ["a", "b"])
    lost, kept = claims(store, limit=2)
    store.work([Settlement(lost.id, lost.receipt, Event.RETRY)])
    assert store.finish([lost, kept], "done") == 1
    assert [(m.id, m.attempts) for m in store.look("done", EVERY)] == [(kept.id, 0)]
    assert [(m.id, m.attempts) for m in store.look("q", EVERY)] == [(lost.id, 1)]


# -------------------------------------------------------------------------------------- the ids


def test_the_newest_id_is_known_when_its_message_is_gone(store: Store) -> None:
    assert store.newest() == 0
    [ident] = store.put("q", ["x"])
    assert store.newest() == ident
    store.delete("q")
    assert store.newest() == ident


def test_a_stamp_lies_between_what_is_written_before_and_after(store: Store) -> None:
    [before] = store.put("q", ["x"])
    first, second = store.stamp(), store.stamp()
    [after] = store.put("q", ["x"])
    assert before < first < second < after
    assert store.stats("q").total == 2
