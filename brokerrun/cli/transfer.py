"""The verbs that carry messages from one database into another."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import BinaryIO

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, INTERRUPTS, as_json, emit, why
from brokerrun.cli.place import Place, open_broker, read_place
from brokerrun.cli.queues import chooser
from brokerrun.core.backends import read_simplebroker
from brokerrun.core.broker import Broker, check_queue
from brokerrun.core.dump import Cargo, dump_lines, read_dump
from brokerrun.core.ids import now_ns
from brokerrun.errors import StoreMissing, UsageError


def dump(line: Line) -> int:
    """Print messages as JSON lines; all, and the aliases, where none are named."""
    _check_selection(line)
    with open_broker(read_place(line), create=False) as broker, suppress(StoreMissing):
        emit(dump_lines(broker, _wanted(line, broker)))
    return DONE


def load(line: Line) -> int:
    """Store what `dump` printed, all or nothing."""
    place = read_place(line)
    with _source(line.path) as (source, name), closing(_cargo(place, name, "line")) as cargo:
        read_dump(source, cargo)
        _deliver(place, cargo)
        if line.json:
            emit([as_json({"loaded": len(cargo), "aliases": len(cargo.aliases)})])
    return DONE


def take_over(line: Line) -> int:
    """Store the messages and aliases of a SimpleBroker database, all or nothing."""
    _, path = place = read_place(line)
    source = line.path or ""
    if os.path.realpath(source) == path:
        raise UsageError(
            f"{source}: that is the database to import into: name a new one, "
            "`broker -f NEW.db import FILE`"
        )
    with closing(_cargo(place, source, "row")) as cargo, read_simplebroker(source) as found:
        for number, message in enumerate(found.messages, 1):
            with cargo.row(number):
                cargo.add(message, number)
        for number, alias in enumerate(found.aliases, 1):
            with cargo.row(number):
                cargo.add_alias(*alias)
        _deliver(place, cargo)
        _say_imported(line, len(cargo), len(cargo.aliases), found.left_out)
    return DONE


def _check_selection(line: Line) -> None:
    if bool(line.queues) + (line.prefix is not None) + (line.pattern is not None) > 1:
        raise UsageError("dump takes queues, --prefix or --pattern, one of them")
    for queue in line.queues:
        check_queue(queue)
    chooser(line)


def _wanted(line: Line, broker: Broker) -> Callable[[str], bool] | None:
    if line.queues:
        return {broker.resolve(queue) for queue in line.queues}.__contains__
    return None if line.prefix is None and line.pattern is None else chooser(line)


@contextmanager
def _source(path: str | None) -> Iterator[tuple[BinaryIO, str]]:
    """Open what is loaded, and name it."""
    if path is not None and path != "-":
        try:
            with open(path, "rb") as file:
                yield file, path
        except OSError as error:
            if error.filename != path:
                raise
            raise UsageError(f"{path}: cannot be read: {why(error)}") from error
        return
    if sys.stdin is None:
        raise UsageError("standard input is closed: name a file")
    if path is None and sys.stdin.isatty():
        raise UsageError("nothing to load: name a file, pipe one in, or say '-' to type it")
    yield sys.stdin.buffer, "standard input"


def _cargo(place: Place, source: str, unit: str) -> Cargo:
    settings, _ = place
    with open_broker(place, create=False) as broker:
        try:
            aliases = dict(broker.store.aliases())
        except StoreMissing:
            aliases = {}
    most = settings.max_message_size
    return Cargo(source, unit, most_bytes=most, aliases=aliases, now=now_ns())


def _deliver(place: Place, cargo: Cargo) -> None:
    with INTERRUPTS.held(), open_broker(place, create=True) as broker:
        cargo.deliver(broker.store)


def _say_imported(line: Line, messages: int, aliases: int, left_out: int) -> None:
    if line.json:
        emit([as_json({"imported": messages, "aliases": aliases, "left_out": left_out})])
    elif not line.quiet:
        emit([f"imported {messages} messages, {aliases} aliases; left out {left_out} read ones"])
