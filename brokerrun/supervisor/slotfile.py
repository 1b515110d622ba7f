"""The slots: how far each worker has come, in shared memory beside the database.

One mapped file a supervisor, named after the database and the instance; its flock is what makes
the instance single. The worker stores, the supervisor reads, and a starting supervisor reads what
its predecessor's workers left. All numbers are aligned 64-bit words, each stored at once.

A claim is two arrays used in turn: receipt, count, ids in handling order. One word holds the
number of the claim and the index of the message in hand together. It is stored last, and only
after the claim's commit; so whenever a worker dies, the ids before the index are done, the one at
the index was struck, and those behind it were not begun, provided that their rows still carry the
receipt.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape, glob
from typing import Final

from brokerrun.errors import AlreadyRunning, StoreError

MOST_IDS: Final = 64
_INDEX_BITS: Final = 16
_WORD, _FLAG, _OWNER, _PID, _BORN, _STARTED, _EXTENDED, _HANDLED, _FAILED, _LATE = range(10)
_ARRAYS: Final = 10
_ARRAY_WORDS: Final = 2 + MOST_IDS
_SLOT_WORDS: Final = 160
_HEADER_WORDS: Final = 8
_BEAT: Final = 2
_MAGIC: Final = 0x31746F6C73726B62  # "bkrslot1"


@dataclass(frozen=True, slots=True)
class InHand:
    """What a slot said at one moment.

    index: Of the message in hand; as many as there are ids: none is.
    started: Monotonic nanoseconds when the message in hand began.
    extended: Monotonic nanoseconds before which it is not late; 0: nothing was said.
    """

    owner: int
    claim: int
    index: int
    receipt: int
    ids: tuple[int, ...]
    started: int
    extended: int
    handled: int
    failed: int
    pid: int
    born: int

    @property
    def busy(self) -> bool:
        return self.index < len(self.ids)

    @property
    def message(self) -> int | None:
        return self.ids[self.index] if self.busy else None


class Slot:
    """One worker's place in the file."""

    def __init__(self, words: memoryview, number: int):
        begin = _HEADER_WORDS + number * _SLOT_WORDS
        self._words = words[begin : begin + _SLOT_WORDS]

    # --------------------------------------------------------------------- the worker's side

    def begin_claim(self, receipt: int, ids: Sequence[int], now: int) -> None:
        """Say which messages are held, the first of them in hand. After the commit."""
        claim = (self._words[_WORD] >> _INDEX_BITS) + 1
        array = _ARRAYS + (claim & 1) * _ARRAY_WORDS
        self._words[array] = receipt
        self._words[array + 1] = len(ids)
        for place, ident in enumerate(ids, array + 2):
            self._words[place] = ident
        self._words[_STARTED] = now
        self._words[_EXTENDED] = 0
        self._words[_WORD] = claim << _INDEX_BITS

    def advance(self, now: int) -> bool:
        """Say that the message in hand is settled or done and the next one begins.

        Returns:
            Whether the supervisor asks for what is left: take it under a new receipt first.
        """
        self._words[_STARTED] = now
        self._words[_EXTENDED] = 0
        self._words[_WORD] += 1
        # The word is stored before the flag is looked at; the supervisor raises the flag before
        # it reads the word. So one of the two sees the other.
        return bool(self._words[_FLAG] == self._words[_WORD] >> _INDEX_BITS)

    def skip(self, messages: int) -> None:
        """Say that none of the rest is in hand: it is no longer ours."""
        self._words[_WORD] += messages

    def late(self) -> bool:
        """Tell whether the supervisor declared the message in hand over its timeout."""
        return bool(self._words[_LATE] == self._words[_WORD])

    def extend(self, until: int) -> None:
        """Let the message in hand not be late before *until*."""
        self._words[_EXTENDED] = until

    def count(self, *, failed: bool) -> None:
        """Count one message handled, or failed."""
        self._words[_FAILED if failed else _HANDLED] += 1

    # ----------------------------------------------------------------- the supervisor's side

    def reset(self, owner: int) -> None:
        """Make the place empty for a new worker."""
        self._words[_WORD] = 0
        for place in range(1, _SLOT_WORDS):
            self._words[place] = 0
        self._words[_OWNER] = owner

    def announce(self, pid: int, born: int) -> None:
        """Note who the worker is: its pid, and its start in ticks since boot."""
        self._words[_PID], self._words[_BORN] = pid, born

    def declare_late(self, seen: InHand) -> None:
        """Say that the message in hand is over its timeout: it has failed, whatever it returns."""
        self._words[_LATE] = seen.claim << _INDEX_BITS | seen.index

    def ask_back(self, claim: int) -> None:
        """Ask the worker to take what is left of *claim* under a new receipt."""
        self._words[_FLAG] = claim

    def read(self) -> InHand | None:
        """Read the place; None where it is implausible or changed all the while."""
        for _ in range(8):
            word = self._words[_WORD]
            started, extended = self._words[_STARTED], self._words[_EXTENDED]
            claim, index = word >> _INDEX_BITS, word & ((1 << _INDEX_BITS) - 1)
            array = _ARRAYS + (claim & 1) * _ARRAY_WORDS
            receipt, count = self._words[array], self._words[array + 1]
            ids = tuple(self._words[array + 2 : array + 2 + min(count, MOST_IDS)])
            if self._words[_WORD] == word:
                break
        else:
            return None
        if count > MOST_IDS or index > count or not all(ids):
            return None
        return InHand(
            owner=self._words[_OWNER],
            claim=claim,
            index=index,
            receipt=receipt,
            ids=ids,
            started=started,
            extended=extended,
            handled=self._words[_HANDLED],
            failed=self._words[_FAILED],
            pid=self._words[_PID],
            born=self._words[_BORN],
        )


class SlotFile:
    """The mapped file."""

    def __init__(self, fd: int):
        self._fd = fd
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self.words = memoryview(self._map).cast("Q")

    def __getitem__(self, number: int) -> Slot:
        return Slot(self.words, number)

    def make_room(self, slots: int) -> None:
        """Have at least so many slots, the new ones empty; those in use stay where they are.

        Killed between any two lines it leaves a file that reads as before: an empty slot is
        nobody's.

        Raises:
            StoreError: The disk is full.
        """
        there = (len(self.words) - _HEADER_WORDS) // _SLOT_WORDS
        if slots > there:
            _reach(self._fd, max(slots, 2 * there))
            self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
            self.words = memoryview(self._map).cast("Q")

    def open_for_worker(self) -> int:
        """Open the file for a worker, who may be another user.

        Anew: a copy of the supervisor's own descriptor would have its lock live on in the worker.
        Not by its name: that may have been deleted, or be the name of another file by now.
        """
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)

    def beat(self, now: int) -> None:
        """Say at which monotonic nanoseconds the supervisor's loop came round."""
        self.words[_BEAT] = now


@dataclass(frozen=True, slots=True)
class Left:
    """What a predecessor left: the boot it ran in, and its slots by owner."""

    boot: int
    slots: dict[int, InHand]


def slots_path(database: str, name: str) -> str:
    """Name the file: beside the database, after the instance."""
    return f"{os.path.realpath(database)}.{name}.slots"


def lock(path: str) -> int:
    """Be the only supervisor of that database and name on this host, until the process ends.

    Raises:
        AlreadyRunning: Another one is.
        StoreError: The folder of the database cannot be written to.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError as error:
            folder = os.path.dirname(path)
            raise StoreError(f"{folder}: there is no such folder for the database") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise AlreadyRunning(
                f"{path}: another supervisor runs for this database and name; "
                "see `brokerrun status`, or give this one another name"
            ) from None
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        os.close(fd)  # the file was deleted meanwhile: that lock excludes nobody


def read_left(fd: int) -> Left:
    """Read what the predecessor's workers left."""
    # Read, not mapped: another instance may lay its file out anew meanwhile, and a mapping of what
    # was cut off is a SIGBUS.
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    words = memoryview(data[: len(data) // 8 * 8]).cast("Q")
    if len(words) < _HEADER_WORDS + _SLOT_WORDS or words[0] != _MAGIC:
        return Left(0, {})
    number = (len(words) - _HEADER_WORDS) // _SLOT_WORDS
    found = [Slot(words, place).read() for place in range(number)]
    return Left(words[1], {seen.owner: seen for seen in found if seen and seen.owner})


def last_beat(path: str, boot: int) -> int | None:
    """Return the monotonic nanoseconds at which that supervisor's loop last came round."""
    try:
        with open(path, "rb") as file:
            words = memoryview(file.read(8 * _HEADER_WORDS)).cast("Q")
    except OSError:
        return None
    whole = len(words) == _HEADER_WORDS and words[0] == _MAGIC and words[1] == boot
    return (words[_BEAT] or None) if whole else None


def read_beside(database: str) -> dict[int, InHand]:
    """Read the slots of every instance of a database, by owner."""
    found: dict[int, InHand] = {}
    for path in glob(slots_path(escape(os.path.realpath(database)), "*")):
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                found |= read_left(fd).slots
            finally:
                os.close(fd)
    return found


def lay_out(fd: int, slots: int, boot: int) -> SlotFile:
    """Make the file anew, all slots empty. Only once nobody uses the old ones."""
    os.ftruncate(fd, 0)
    _reach(fd, slots)
    file = SlotFile(fd)
    file.words[0], file.words[1] = _MAGIC, boot
    return file


def _reach(fd: int, slots: int) -> None:
    # Its space is had beforehand: a store into a mapping that the disk has no room for is a SIGBUS.
    try:
        os.posix_fallocate(fd, 0, 8 * (_HEADER_WORDS + slots * _SLOT_WORDS))
    except OSError as error:
        raise StoreError(f"no room for {slots} slots: {error.strerror}") from error


def open_slot(fd: int, number: int) -> Slot:
    """In a worker: map the file and find one's own place. The descriptor is used up."""
    try:
        return SlotFile(fd)[number]
    finally:
        os.close(fd)
