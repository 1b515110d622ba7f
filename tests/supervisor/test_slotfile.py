"""The slots: what they say whenever a worker dies, and who holds the file."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, product
from multiprocessing.connection import Connection as Talk
from pathlib import Path
from random import Random
from types import CodeType, FrameType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from supervised import spec_of
from support import Child

from brokerrun.core.backends import open_store
from brokerrun.core.model import Claim, Effect, Held, Selection, Settlement, Wanted
from brokerrun.core.owners import new_guardian, worker_owner
from brokerrun.core.retry import Backoff
from brokerrun.core.states import Event
from brokerrun.core.store import Store
from brokerrun.errors import AlreadyRunning, StoreError
from brokerrun.supervisor import slotfile
from brokerrun.supervisor import worker as worker_module
from brokerrun.supervisor.fate import Cause, Death, fates
from brokerrun.supervisor.fleet import Fleet
from brokerrun.supervisor.handlers import Dead, Form, Handler, Job, Retry
from brokerrun.supervisor.logs import logger, set_up_logs
from brokerrun.supervisor.slotfile import (
    InHand,
    Slot,
    lay_out,
    lock,
    open_slot,
    read_left,
)
from brokerrun.supervisor.wear import Wear
from brokerrun.supervisor.worker import Worker

DEATH = Death(Cause.ITSELF, pid=1, host="h", signal=9, reason="worker killed by SIGKILL")
SPEC = spec_of(max_attempts=10, crashes=10, backoff=Backoff(steps=(0.0,)))
(POLICY,) = SPEC.policies().values()
KINDS = ("again", "ok", "dead", "ok", "again", "ok")
EVERYTHING = frozenset({worker_module.__file__, slotfile.__file__})
# Where the store and the slot are written to, and what calls it.
ESSENTIAL = frozenset(
    function.__code__
    for function in (
        Worker.run,
        Worker._claim,
        Worker._handle,
        Worker._end,
        Worker._settle,
        Worker._take_again,
        Slot.begin_claim,
        Slot.advance,
    )
)
Decide = Callable[[list[Held], InHand | None], list[Settlement]]


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    set_up_logs("logfmt", "error")
    yield
    sys.settrace(None)


def slot_at(path: str, number: int) -> Slot:
    return open_slot(os.open(path, os.O_RDWR), number)


@pytest.fixture
def slots_path(tmp_path: Path) -> Iterator[str]:
    """Lay out a slots file of one place."""
    path = str(tmp_path / "q.db.default.slots")
    fd = lock(path)
    lay_out(fd, 1, boot=1)
    yield path
    os.close(fd)


# ---------------------------------------------------- a real worker, killed between any two lines


class Early(Worker):
    """Wrong: the progress is stored before what it stands for is committed."""

    def _end(self, claim: Claim, ended: Any) -> None:
        self.slot._words[0] += 1
        super()._end(claim, ended)
        self.slot._words[0] -= 1  # `_handle` adds it again


def by_the_slot(held: list[Held], seen: InHand | None) -> list[Settlement]:
    return fates(held, seen, DEATH, POLICY)


def without_the_receipt(held: list[Held], seen: InHand | None) -> list[Settlement]:
    """Wrong: the ids alone say what was begun."""
    found = [fates([h], seen and replace(seen, receipt=h.receipt), DEATH, POLICY) for h in held]
    return [settlement for one in found for settlement in one]


def by_counting_rows(held: list[Held], seen: InHand | None) -> list[Settlement]:
    """Wrong: the index alone says what was begun."""
    ordered = sorted(held, key=lambda h: h.id)
    if seen is not None and ordered:
        seen = replace(seen, receipt=ordered[0].receipt, ids=tuple(h.id for h in ordered))
    return fates(ordered, seen, DEATH, POLICY)


def without_a_slot(held: list[Held], seen: InHand | None) -> list[Settlement]:
    """Wrong: what is held was not done."""
    return fates(held, None, DEATH, POLICY)


@dataclass
class Site:
    """A store, a slots file, and workers that are killed at a line of their code."""

    database: str
    slots: str
    batch: int
    kind: type[Worker] = Worker
    stops_after: int | None = None  # runs: then it is told to stop
    traced: frozenset[str | CodeType] = ESSENTIAL
    store: Store = field(init=False)
    ids: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.store = open_store(self.database)

    def fill(self) -> None:
        self.store.delete(None)
        self.ids = self.store.put("q", KINDS[: self.batch + 2])

    def run(self, owner: int, line: int | None) -> tuple[list[tuple[str, int]], int]:
        """Run a worker until all is done or its line *line*; return what it ran, and its lines.

        What it ran: ("begun", id), ("done", id) or ("refused", id), in order.
        """
        self.store.close()
        read_fd, write_fd = os.pipe()
        child = Child(lambda talk: self._work(talk, owner, line, write_fd))
        os.close(write_fd)
        with open(read_fd, "rb") as said:
            ran = [self._decode(said_line) for said_line in said.read().splitlines()]
        lines = child.hear() if line is None else line
        child.wait()
        assert child.status in (0, -signal.SIGKILL)
        return ran, lines

    def _decode(self, said_line: bytes) -> tuple[str, int]:
        word, ident = said_line.decode().split()
        return word, int(ident)

    def _work(self, talk: Talk, owner: int, line: int | None, tell: int) -> None:
        runs = 0

        def say(word: str, job: Job) -> None:
            os.write(tell, f"{word} {job.id}\n".encode())

        def handle(job: Job) -> None:
            nonlocal runs
            runs += 1
            say("begun", job)
            if job.body == "again" and job.last_error is None:
                say("refused", job)
                raise Retry(0)
            say("done", job)
            if job.body == "dead":
                raise Dead

        store = open_store(self.database)
        store.begin_life(owner)

        def stopping() -> bool:
            if self.stops_after is not None and line is not None and runs >= self.stops_after:
                return True
            return not store.unfinished(["q"])

        slot = slot_at(self.slots, 0)
        slot.reset(owner)
        spec = replace(SPEC, prefetch=self.batch)
        worker = self.kind(
            spec,
            Handler(handle, Form.JOB),
            store,
            slot,
            owner,
            logger(),
            stopping,
            Wear(spec, ask=print),
            [],
            1,
        )
        dies = {} if line is None else {line: [lambda: os.kill(os.getpid(), signal.SIGKILL)]}
        counter = Lines(self.traced, dies)
        sys.settrace(counter.trace)
        worker.run()
        sys.settrace(None)
        talk.send(counter.seen)
        store.close()


class Lines:
    """Counts the lines that are run of those files and functions, and acts before some of them."""

    def __init__(
        self, traced: frozenset[str | CodeType], acts: dict[int, list[Callable[[], None]]]
    ):
        self.seen, self._traced, self._acts = 0, traced, acts

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        return self._line if code in self._traced or code.co_filename in self._traced else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            line, self.seen = self.seen, self.seen + 1
            for act in self._acts.get(line, ()):
                act()
        return self._line


def faults_of(site: Site, line: int, decide: Decide) -> list[str]:
    """Kill a worker at a line, settle what it held, run the rest; say what is wrong."""
    site.fill()
    guardian = new_guardian()
    owner = worker_owner(guardian, 1)
    ran, _ = site.run(owner, line)
    seen = slot_at(site.slots, 0).read()
    held = [row for row in site.store.held() if row.owner == owner]
    site.store.work(decide(held, seen))
    assert not site.store.held()
    there = {m.id for m in site.store.look("q", Selection(limit=None))}
    began = Counter(ident for word, ident in ran if word == "begun")
    done = {ident for word, ident in ran if word == "done"}
    refused = Counter(ident for word, ident in ran if word == "refused")
    faults = [f"{i} is gone and was not done" for i in set(site.ids) - there - done]
    repeats = sum(began[i] > refused[i] for i in there)
    if repeats > 1:
        faults.append(f"{repeats} messages are run again")
    burned = {m.id for m in site.store.look("q", Selection(limit=None)) if m.attempts}
    struck = seen.message if seen else None
    faults += [f"{i} was not begun and pays" for i in burned if not began[i] and i != struck]
    rest, _ = site.run(worker_owner(guardian, 2), None)
    done |= {ident for word, ident in rest if word == "done"}
    faults += [f"{i} was never done" for i in set(site.ids) - done]
    return faults


def each_line(site: Site, step: int = 1) -> Iterator[int]:
    site.fill()
    _, lines = site.run(worker_owner(new_guardian(), 1), None)
    return iter(range(0, lines, step))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_worker_killed_at_any_line_loses_nothing_and_repeats_at_most_one(
    database: str, slots_path: str, batch: int
) -> None:
    site = Site(database, slots_path, batch)
    for line in each_line(site, step=3):  # every single one: the slow test below
        assert not faults_of(site, line, by_the_slot), f"killed at line {line}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("batch", "stops_after"), [(1, None), (2, None), (3, None), (4, None), (3, 1), (4, 2)]
)
def test_a_worker_killed_at_every_line_of_its_module_told_to_stop_or_not(
    database: str, slots_path: str, batch: int, stops_after: int | None
) -> None:
    site = Site(database, slots_path, batch, stops_after=stops_after, traced=EVERYTHING)
    for line in each_line(site):
        assert not faults_of(site, line, by_the_slot), f"killed at line {line}"


@pytest.mark.parametrize(
    ("kind", "decide", "fault"),
    [
        (Early, by_the_slot, "was never done"),
        (Worker, without_the_receipt, "was never done"),
        (Worker, by_counting_rows, "was not begun and pays"),
        (Worker, without_a_slot, "messages are run again"),
    ],
)
def test_the_same_kills_catch_a_wrong_protocol(
    database: str, slots_path: str, kind: type[Worker], decide: Decide, fault: str
) -> None:
    site = Site(database, slots_path, 3, kind=kind)
    assert any(
        fault in said for line in each_line(site, 4) for said in faults_of(site, line, decide)
    )


# ------------------------------------- the rest of a claim is asked for while the worker advances


@dataclass
class Row:
    owner: int | None = None
    receipt: int | None = None


class Rows:
    """A model of the store: rows with receipts, every call one step."""

    def __init__(self, ids: range, owner: int):
        self.rows = {ident: Row() for ident in ids}
        self.owner, self.receipts = owner, 1000
        self.effects: Counter[tuple[int, Event, Effect]] = Counter()

    def work(
        self, settlements: Any, *wanted: Wanted, late: bool = False
    ) -> tuple[list[Effect], list[Claim]]:
        effects = [self._settle(settlement) for settlement in settlements]
        if not wanted:
            return effects, []
        (one,) = wanted
        self.receipts += 1
        taken = [i for i, row in sorted(self.rows.items()) if row.owner is None][: one.limit]
        for ident in taken:
            self.rows[ident] = Row(one.owner, self.receipts)
        return effects, [Claim(i, "", "q", self.receipts, 1, 0) for i in taken]

    def renew(self, ids: Any, receipt: int) -> tuple[int, set[int]]:
        self.receipts += 1
        ours = {i for i in ids if i in self.rows and self.rows[i].receipt == receipt}
        for ident in ours:
            self.rows[ident].receipt = self.receipts
        return self.receipts, ours

    def flush(self) -> None:
        """Nothing is late."""

    def _settle(self, settlement: Settlement) -> Effect:
        row = self.rows.get(settlement.id)
        effect = (
            Effect.GONE
            if row is None
            else Effect.SETTLED
            if row.receipt == settlement.receipt
            else Effect.LOST
        )
        if effect is Effect.SETTLED and settlement.event is Event.ACK:
            del self.rows[settlement.id]
        elif effect is Effect.SETTLED:
            self.rows[settlement.id] = Row()
        self.effects[settlement.id, settlement.event, effect] += 1
        return effect


class FlagFirst(Slot):
    """Wrong: looks at the flag before the word is stored."""

    def advance(self, now: int) -> bool:
        asked = bool(self._words[1] == self._words[0] >> 16)
        self._words[0] += 1
        return asked


class FlagNever(Slot):
    """Wrong: never looks."""

    def advance(self, now: int) -> bool:
        super().advance(now)
        return False


ASKING = frozenset(
    function.__code__
    for function in (
        Worker._handle,
        Worker._take_again,
        Slot.advance,
        Slot.begin_claim,
        FlagFirst.advance,
        FlagNever.advance,
    )
)


class Killed(BaseException):
    """The model of SIGKILL: raised where nothing catches it."""


class AskBack:
    """A real worker that claimed three messages; the steps of the supervisor and of death fall
    between its lines.
    """

    def __init__(self, words: memoryview, kind: type[Slot] = Slot):
        self.guardian = new_guardian()
        self.owner = worker_owner(self.guardian, 1)
        self.rows = Rows(range(1, 4), self.owner)
        self.slot = kind(words, 0)
        self.slot.reset(self.owner)
        self.ran: Counter[int] = Counter()
        self.faults: list[str] = []
        self._asked = 0
        self._seen: InHand | None = None
        self._freeing: list[Callable[[Any], object]] = []

    def run(self, steps: tuple[tuple[str, int], ...] = ()) -> int:
        """Do each step before its line of the worker, or at the end; return how many there are."""
        acts: dict[int, list[Callable[[], None]]] = {}
        for name, line in steps:
            acts.setdefault(line, []).append(getattr(self, f"_{name}"))
        lines = Lines(ASKING, acts)
        died = self._work(lines)
        for name, line in steps:
            if line >= lines.seen and not died and name != "die":
                getattr(self, f"_{name}")()
        self._free()  # the keeper does what it was asked for before it settles a death
        if died:
            held = [
                Held(i, "q", row.owner, row.receipt or 0, 1, 0)
                for i, row in self.rows.rows.items()
                if row.owner == self.owner
            ]
            self.rows.work(by_the_slot(held, self.slot.read()))
        self._look(died)
        return lines.seen

    def _work(self, lines: Lines) -> bool:
        store: Any = self.rows
        handler, spec = Handler(self._handle, Form.JOB), replace(SPEC, prefetch=3)
        worker = Worker(
            spec,
            handler,
            store,
            self.slot,
            self.owner,
            logger(),
            lambda: False,
            Wear(spec, ask=print),
            [],
            1,
        )
        claims = worker._claim()
        try:
            sys.settrace(lines.trace)
            worker._handle(claims)
            sys.settrace(None)
            worker._settle([])
        except Killed:
            return True
        finally:
            sys.settrace(None)
        return False

    def _handle(self, job: Job) -> None:
        self.ran[job.id] += 1
        if job.id not in self.rows.rows or self.rows.rows[job.id].owner != self.owner:
            self.faults.append(f"{job.id} was freed and is run")

    def _ask(self) -> None:
        seen = self.slot.read()
        if seen is not None and seen.busy:
            self._asked = seen.claim
            self.slot.ask_back(seen.claim)

    def _read(self) -> None:
        seen = self.slot.read()
        if seen is not None and seen.busy and seen.claim == self._asked:
            fleet: Any = SimpleNamespace(keeper=SimpleNamespace(ask=self._freeing.append))
            Fleet._free(fleet, seen)

    def _read_early(self) -> None:
        """Wrong: does not ask before it reads."""
        seen = self.slot.read()
        self._asked = seen.claim if seen else 0
        self._read()

    def _free(self) -> None:
        while self._freeing:
            self._freeing.pop()(self.rows)
        for row in self.rows.rows.values():  # somebody takes them at once
            if row.owner is None:
                row.owner = OTHER

    def _die(self) -> None:
        raise Killed

    def _look(self, died: bool) -> None:
        there = self.rows.rows
        self.faults += [f"{i} is lost" for i in range(1, 4) if i not in there and not self.ran[i]]
        self.faults += [f"{i} is stranded" for i, r in there.items() if r.owner == self.owner]
        again = sum(self.ran[i] for i in there)
        if again > died:
            self.faults.append(f"{again} are run again")


OTHER = 5


def words_of(path: str) -> memoryview:
    fd = os.open(path, os.O_RDWR)
    try:
        return slotfile.SlotFile(fd).words
    finally:
        os.close(fd)


def interleavings(words: memoryview, kind: type[Slot], *names: str) -> Iterator[list[str]]:
    """Yield the faults of each order of those steps and the worker's lines."""
    lines = AskBack(words, kind).run()
    assert lines > 30
    orders = list(combinations_with_replacement(range(lines + 1), len(names)))
    Random(lines).shuffle(orders)  # so that what is wrong shows itself soon
    for places in orders:
        one = AskBack(words, kind)
        one.run(tuple(zip(names, places, strict=True)))
        yield [f"{one.faults} at {places}"] if one.faults else []


def test_nobody_runs_what_was_freed_whenever_the_rest_is_asked_for(slots_path: str) -> None:
    for faults in interleavings(words_of(slots_path), Slot, "ask", "read", "free"):
        assert not faults


def test_what_waits_behind_a_long_message_is_freed_where_the_worker_does_not_advance(
    slots_path: str,
) -> None:
    one = AskBack(words_of(slots_path))
    lines = AskBack(words_of(slots_path)).run()
    one.run((("ask", lines // 3), ("read", lines // 3), ("free", lines // 3)))
    assert not one.faults
    assert one.rows.effects.total() > 0


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        (FlagFirst, ("ask", "read", "free")),
        (FlagNever, ("ask", "read", "free")),
        (Slot, ("read_early", "ask", "free")),
    ],
)
def test_the_same_interleavings_catch_a_wrong_way_of_asking(
    slots_path: str, kind: type[Slot], steps: tuple[str, ...]
) -> None:
    assert any(interleavings(words_of(slots_path), kind, *steps))


@pytest.mark.parametrize("then", [(), ("read",), ("read", "free")])
def test_a_death_after_the_rest_was_asked_for_repeats_at_most_one(
    slots_path: str, then: tuple[str, ...]
) -> None:
    words = words_of(slots_path)
    lines = AskBack(words).run()
    for asked, dies in product(range(lines), range(lines + 30)):
        one = AskBack(words)
        one.run((("ask", asked), *((name, asked) for name in then), ("die", dies)))
        assert not one.faults, f"asked at line {asked}, killed at line {dies}"


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=4, max_size=4))
def test_a_death_while_the_rest_is_asked_for_repeats_at_most_one(places: list[int]) -> None:
    words = memoryview(bytearray(8 * 200)).cast("Q")
    ask, read, free = sorted(places[:3])
    one = AskBack(words)
    one.run((("ask", ask), ("read", read), ("free", free), ("die", places[3])))
    assert not one.faults


# ------------------------------------------------------------------------ what no slot can mean


def plausible(slots_path: str) -> Slot:
    slot = slot_at(slots_path, 0)
    slot.reset(7)
    slot.begin_claim(99, [11, 12], now=5)
    return slot


def test_a_slot_says_who_holds_what_and_how_far_it_is(slots_path: str) -> None:
    slot = plausible(slots_path)
    slot.announce(pid=123, born=456)
    slot.count(failed=False)
    slot.count(failed=True)
    slot.advance(now=6)
    slot.extend(until=9)
    seen = slot_at(slots_path, 0).read()
    assert seen == InHand(7, 1, 1, 99, (11, 12), 6, 9, handled=1, failed=1, pid=123, born=456)
    assert (seen.busy, seen.message) == (True, 12)


def test_an_empty_slot_holds_nothing(slots_path: str) -> None:
    slot = slot_at(slots_path, 0)
    slot.reset(7)
    seen = slot.read()
    assert seen is not None
    assert (seen.owner, seen.busy, seen.message, seen.ids) == (7, False, None, ())


def test_a_slot_of_another_owner_says_nothing_of_its_predecessor(slots_path: str) -> None:
    slot = plausible(slots_path)
    slot.reset(8)
    seen = slot.read()
    assert seen is not None
    assert (seen.owner, seen.ids, seen.receipt) == (8, (), 0)


ARRAY = 10 + 66  # of the first claim: receipt, count, ids


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0, 1 << 16 | 3),  # the index is beyond the ids
        (ARRAY + 1, 65),  # more ids than have room
        (ARRAY + 1, 1 << 63),
        (ARRAY + 1, 3),  # an id that is none
        (ARRAY + 2, 0),
    ],
)
def test_an_implausible_slot_is_no_slot(slots_path: str, word: int, value: int) -> None:
    slot = plausible(slots_path)
    slot._words[word] = value
    assert slot.read() is None


def test_the_most_ids_that_a_claim_may_hold_fit(slots_path: str) -> None:
    slot, ids = slot_at(slots_path, 0), list(range(1, slotfile.MOST_IDS + 1))
    slot.reset(7)
    for claim in (1, 2, 3):
        slot.begin_claim(claim, ids, now=1)
        seen = slot.read()
        assert seen is not None
        assert (seen.receipt, seen.ids) == (claim, tuple(ids))


# ------------------------------------------------------------------------------ who has the file


def test_a_second_supervisor_of_that_name_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "q.slots")
    held = lock(path)
    with pytest.raises(AlreadyRunning, match="another supervisor"):
        lock(path)
    os.close(held)
    os.close(lock(path))


def test_the_lock_ends_with_the_process_that_had_it(tmp_path: Path) -> None:
    path = str(tmp_path / "q.slots")
    child = Child(lambda talk: (lock(path), talk.send("locked"), talk.recv()))
    assert child.hear() == "locked"
    with pytest.raises(AlreadyRunning):
        lock(path)
    child.kill()
    os.close(lock(path))


def test_the_lock_of_a_deleted_file_is_nobodys(tmp_path: Path) -> None:
    """Whoever locked a file that is gone, or was replaced, goes on to the one that is there."""
    path = str(tmp_path / "q.slots")
    old = lock(path)
    os.unlink(path)
    new = lock(path)
    assert os.fstat(new).st_ino == os.stat(path).st_ino != os.fstat(old).st_ino
    with pytest.raises(AlreadyRunning):
        lock(path)
    os.close(new)
    os.close(old)


def test_a_file_that_is_replaced_between_open_and_lock_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = str(tmp_path / "q.slots"), slotfile.fcntl.flock

    def replaced(fd: int, how: int) -> None:
        monkeypatch.setattr(slotfile.fcntl, "flock", real)
        os.unlink(path)
        real(fd, how)

    monkeypatch.setattr(slotfile.fcntl, "flock", replaced)
    fd = lock(path)
    assert os.fstat(fd).st_ino == os.stat(path).st_ino
    os.close(fd)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing: there is no such folder for the database"):
        lock(str(tmp_path / "missing" / "q.slots"))


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "q.slots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        lock(str(tmp_path / "q.slots"))
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_is_the_owners_only(slots_path: str) -> None:
    assert os.stat(slots_path).st_mode & 0o777 == 0o600


def test_a_successor_reads_what_the_workers_left(slots_path: str) -> None:
    plausible(slots_path)
    fd = os.open(slots_path, os.O_RDWR)
    left = read_left(fd)
    os.close(fd)
    assert left.boot == 1
    assert {owner: seen.ids for owner, seen in left.slots.items()} == {7: (11, 12)}


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 8000, b"not a slots file" * 500])
def test_a_file_that_is_none_of_ours_says_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "q.slots"
    file.write_bytes(content)
    fd = os.open(file, os.O_RDWR)
    assert read_left(fd).slots == {}
    os.close(fd)


def test_the_file_is_laid_out_anew_with_all_places_empty(slots_path: str) -> None:
    plausible(slots_path)
    fd = os.open(slots_path, os.O_RDWR)
    lay_out(fd, 3, boot=2)
    left = read_left(fd)
    assert (left.boot, left.slots) == (2, {})
    assert [slot_at(slots_path, place).read().ids for place in range(3)] == [()] * 3
    os.close(fd)


def test_room_is_made_for_more_slots_and_those_in_use_stay_what_they_are(slots_path: str) -> None:
    slot = plausible(slots_path)
    fd = os.open(slots_path, os.O_RDWR)
    file = slotfile.SlotFile(fd)
    for wanted in (2, 3, 100):
        file.make_room(wanted)
        file[wanted - 1].reset(owner=wanted)
        assert set(read_left(fd).slots) >= {7, wanted}
    slot.advance(1)  # a worker's own mapping of before is the same file
    assert file[0].read().index == slot.read().index
    file.make_room(1)  # never fewer
    assert set(read_left(fd).slots) == {7, 2, 3, 100}
    os.close(fd)


def test_no_room_for_more_slots_is_said_before_anything_is_stored(slots_path: str) -> None:
    """Behind the limit of a file's size it is as on a full disk."""
    plausible(slots_path)

    def work(talk: Talk) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        file = slotfile.SlotFile(os.open(slots_path, os.O_RDWR))
        with pytest.raises(StoreError, match="no room for 100 slots"):
            file.make_room(100)
        assert file[0].read().ids == (11, 12)

    Child(work).ends_well()
