"""What is done to a whole database: made, counted, vacuumed, deleted."""

from __future__ import annotations

import os

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, INTERRUPTS, as_json, emit, say
from brokerrun.cli.place import open_broker, read_place
from brokerrun.core.backends import remove_store
from brokerrun.core.model import Summary
from brokerrun.core.settings import read_settings
from brokerrun.core.target import find_for_init
from brokerrun.errors import StoreMissing, UsageError


def init(line: Line) -> int:
    """Make the database of the current directory, or of its project; leave one that is there."""
    if line.dir is not None or line.file is not None:
        raise UsageError(
            "init takes neither -d nor -f: it makes the database of the current directory, "
            "BROKER_DEFAULT_DB_NAME names it"
        )
    settings = read_settings(os.environ)
    path = find_for_init(settings)
    with INTERRUPTS.held():
        with open_broker((settings, path), create=False) as broker:
            try:
                broker.store.summary()
                made = False
            except StoreMissing:
                made = True
        if made:
            with open_broker((settings, path), create=True) as broker:
                broker.store.summary()
    _tell(line, f"{'made' if made else 'there already'}: {path}", database=path, made=made)
    return DONE


def status(line: Line) -> int:
    """Count everything."""
    with open_broker(read_place(line), create=False) as broker:
        try:
            found = broker.store.summary()
        except StoreMissing:
            found = Summary(0, 0, 0)
    facts = {
        "total_messages": found.total,
        "last_timestamp": found.newest,
        "db_size": found.size_bytes,
    }
    if line.json:
        emit([as_json(facts)])
    else:
        emit(f"{name}: {value}" for name, value in facts.items())
    return DONE


def vacuum(line: Line) -> int:
    """Remove the messages that were read."""
    with open_broker(read_place(line), create=False) as broker:
        try:
            gone = broker.store.vacuum(compact=line.compact)
        except StoreMissing:
            gone = 0
    _tell(line, f"vacuumed {gone} messages", vacuumed=gone, compacted=line.compact)
    return DONE


def cleanup(line: Line) -> int:
    """Delete the database with all that belongs to it."""
    if line.dir is not None and not os.path.exists(line.dir):  # then nothing of it is there either
        _tell(line, f"not there: {line.dir}", database=None, deleted=False)
        return DONE
    _, path = read_place(line)
    with INTERRUPTS.held():
        removed = remove_store(path)
    _tell(line, f"{'deleted' if removed else 'not there'}: {path}", database=path, deleted=removed)
    return DONE


def _tell(line: Line, text: str, **facts: object) -> None:
    if line.json:
        emit([as_json(facts)])
    elif not line.quiet:
        say(f"broker: {text}")
