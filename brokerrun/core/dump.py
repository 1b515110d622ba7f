"""Messages and aliases as JSON lines, out of one store and into another.

A line is `{"queue", "message", "timestamp", "id"}`, with `priority`, `ready_at` (seconds since
1970) and `attempts` where they say something, or `{"alias", "target"}`. The lines that
SimpleBroker 8 dumps are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile, gettempdir
from typing import BinaryIO, Final

from brokerrun.core.batches import browse
from brokerrun.core.broker import Broker, check_body, check_name
from brokerrun.core.ids import DIGITS, GREATEST, now_ns, parse_id
from brokerrun.core.model import Message, Selection
from brokerrun.core.states import State
from brokerrun.core.store import Store
from brokerrun.errors import AliasError, MessageError, StoreFull, UsageError

_SECOND: Final = 10**9
_DAY: Final = 86_400 * _SECOND
_GREATEST_COUNT: Final = 2**31 - 1
_IN_MEMORY_BYTES: Final = 4 * 1024 * 1024
_KEYS: Final = ("queue", "message", "timestamp", "id", "priority", "ready_at", "attempts")
_THEIR_FORMAT: Final = ("simplebroker-dump", 1)
_THEIR_NAMES: Final = {"body": "message"}  # what SimpleBroker 8 calls otherwise


def dump_lines(broker: Broker, wanted: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yield the messages of the *wanted* queues as lines; of all, and the aliases, by default.

    Queues by name, messages in the order in which they would be taken. What was written after this
    began is left out, and so are messages that were read; claimed ones are shown as ready. A page
    at a time is in memory, each as of its own moment: a message that is moved meanwhile may be
    missed or come twice (which `load` refuses), so an exact dump needs queues at rest.
    """
    meant = Selection(limit=None, before=broker.store.summary().newest + 1)
    for queue in [stats.queue for stats in broker.queues()]:
        if wanted is None or wanted(queue):
            for page in browse(broker, queue, meant):
                now = now_ns()
                yield from (_line(message, now) for message in page)
    if wanted is None:
        for name, target in broker.store.aliases():
            yield json.dumps({"alias": name, "target": target})


def _line(message: Message, now: int) -> str:
    facts: dict[str, object] = {
        "queue": message.queue,
        "message": message.body,
        "timestamp": message.id,
        "id": str(message.id),
    }
    if message.priority:
        facts["priority"] = message.priority
    if message.state is State.READY and message.ready_at is not None and message.ready_at > now:
        facts["ready_at"] = message.ready_at / _SECOND
    if message.attempts:
        facts["attempts"] = message.attempts
    return json.dumps(facts, ensure_ascii=False)


class Cargo:
    """Messages and aliases on their way into a store: each is checked, all are stored at once.

    The bodies wait in a temporary file; some 200 bytes a message are in memory.

    source, unit: Where they come from and how that is counted; each refusal names both.
    aliases: Those of the store.
    now: Nanoseconds; an id more than a day beyond it would pull all later ids along.
    """

    def __init__(
        self, source: str, unit: str, *, most_bytes: int, aliases: Mapping[str, str], now: int
    ):
        self.source, self.unit, self.most_bytes = source, unit, most_bytes
        self.aliases: dict[str, str] = {}
        self._there = aliases
        self._latest = now + _DAY
        self._numbers: dict[int, int] = {}
        self._spool = _Spool()

    def __len__(self) -> int:
        return len(self._spool)

    @contextmanager
    def row(self, number: int) -> Iterator[None]:
        """Name the row in each refusal inside.

        Raises:
            MessageError: What was added is refused.
        """
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise MessageError(f"{self._place(number)}: {error}: nothing was stored") from error

    def add(self, message: Message, number: int) -> None:
        """Take a message along; *number* is its row.

        Raises:
            UsageError: Its id, queue or body cannot be stored, or the id came before.
        """
        check_name(message.queue)
        check_body(message.body, self.most_bytes)
        parse_id(str(message.id))
        if message.id > self._latest:
            raise UsageError(
                f"message {message.id} is more than a day ahead of the clock: "
                "it would pull all later ids along"
            )
        first = self._numbers.setdefault(message.id, number)
        if first != number:
            raise UsageError(f"message {message.id} stands on {self.unit} {first} already")
        self._spool.append(message)

    def add_alias(self, name: str, target: str) -> None:
        """Take an alias along.

        Raises:
            UsageError: A name is none, or the alias stands for another queue already.
        """
        known = self.aliases.get(check_name(name), self._there.get(name, target))
        if known != check_name(target):
            raise AliasError(f"alias {name!r} stands for {known!r} already")
        self.aliases[name] = target

    def deliver(self, store: Store) -> None:
        """Store everything, in one transaction.

        Raises:
            MessageError: An id is there already.
        """
        try:
            store.load(self._spool, list(self.aliases.items()))
        except MessageError as error:
            place = self._place(self._numbers[self._spool.last])
            raise MessageError(f"{place}: {error}") from error

    def close(self) -> None:
        """Forget everything that is not stored."""
        self._spool.close()

    def _place(self, number: int) -> str:
        return f"{self.unit} {number} of {self.source}"


class _Spool:
    """Messages in a temporary file; knows which was asked for last."""

    def __init__(self) -> None:
        self.last = 0
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - see close
        self._count = 0

    def append(self, message: Message) -> None:
        self._count += 1
        facts = (message.id, message.body, message.queue)
        rest = (message.ready_at, message.attempts, message.priority)
        try:
            self._file.write(json.dumps(facts + rest).encode() + b"\n")
        except OSError as error:
            raise StoreFull(f"{gettempdir()}: {error.strerror}: nothing was stored") from error

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Message]:
        self._file.seek(0)
        for text in self._file:
            self.last, body, queue, *rest = json.loads(text)
            yield Message(self.last, body, queue, State.READY, *rest)

    def close(self) -> None:
        self._file.close()


def read_dump(source: BinaryIO, cargo: Cargo) -> None:
    """Add each line of a dump to *cargo*; empty lines are passed over.

    Raises:
        MessageError: A line is wrong; the text says which.
    """
    longest = 6 * cargo.most_bytes + 8192  # in JSON a character may take six bytes
    number = 0
    while text := source.readline(longest + 1):
        number += 1
        with cargo.row(number):
            if len(text) > longest:
                raise UsageError(f"longer than {longest} bytes")
            if text.strip():
                _add(_facts(text), cargo, number)


def _facts(text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON ({error.msg}, character {error.pos})") from None
    if not isinstance(found, dict):
        raise UsageError("not a JSON object")
    return found


def _add(facts: dict[str, object], cargo: Cargo, number: int) -> None:
    if "type" in facts:
        facts = _translated(facts)
    if "alias" in facts:
        _only(facts, ("alias", "target"))
        cargo.add_alias(_text(facts, "alias"), _text(facts, "target"))
    elif facts:
        _only(facts, _KEYS)
        cargo.add(_message(facts), number)


def _translated(facts: dict[str, object]) -> dict[str, object]:
    """Translate a line of SimpleBroker 8; its head says nothing."""
    if facts["type"] == "header":
        found = (facts.get("format"), facts.get("version"))
        if found != _THEIR_FORMAT:
            raise UsageError(f"a dump of an unknown kind: {found[0]!r} {found[1]!r}")
        return {}
    return {_THEIR_NAMES.get(key, key): value for key, value in facts.items() if key != "type"}


def _message(facts: dict[str, object]) -> Message:
    return Message(
        id=_id(facts),
        body=_text(facts, "message"),
        queue=_text(facts, "queue"),
        ready_at=_instant(facts.get("ready_at")),
        attempts=_whole(facts, "attempts", 0),
        priority=_whole(facts, "priority", -_GREATEST_COUNT),
    )


def _only(facts: dict[str, object], keys: Sequence[str]) -> None:
    if unknown := [key for key in facts if key not in keys]:
        raise UsageError(f"unknown key {unknown[0]!r}: expected {', '.join(keys)}")


def _id(facts: dict[str, object]) -> int:
    """Read the id from `id`, or from `timestamp`; they must agree where both are there."""
    given = [facts[key] for key in ("id", "timestamp") if key in facts]
    if not given:
        raise UsageError(f"id: expected the {DIGITS} digits of a message id, got nothing")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise UsageError(f"id: expected the {DIGITS} digits of a message id, got {value!r}")
    ids = {parse_id(str(value)) for value in given}
    if len(ids) > 1:
        raise UsageError(f"id {facts['id']!r} and timestamp {facts['timestamp']!r} differ")
    return ids.pop()


def _text(facts: dict[str, object], key: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{key}: expected text, got {value!r}")
    return value


def _whole(facts: dict[str, object], key: str, least: int) -> int:
    value = facts.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{key}: expected a whole number, got {value!r}")
    if not least <= value <= _GREATEST_COUNT:
        raise UsageError(f"{key}: expected {least} to {_GREATEST_COUNT}, got {value}")
    return value


def _instant(value: object) -> int | None:
    """Turn seconds into the nanoseconds that lie nearest, so that a second dump says the same."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"ready_at: expected seconds since 1970, got {value!r}")
    if not 0 <= value < GREATEST // _SECOND:  # false for NaN too
        raise UsageError(f"ready_at: expected seconds from 1970 to 2262, got {value!r}")
    number, parts = value.as_integer_ratio()
    return (2 * number * _SECOND + parts) // (2 * parts)
