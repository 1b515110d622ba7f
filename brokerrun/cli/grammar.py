"""What the command line of `broker` is made of: options, verbs, and the line that is read.

The verbs themselves stand in two tables, `hot_verbs` and `rare_verbs`.
"""

from __future__ import annotations

from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from typing import Final


class Option(Value):
    """One option: its names, where its value goes in `Line`, and whether it takes one."""

    names: tuple[str, ...]
    field: str
    help: str
    metavar: str | None = None  # None: a flag


class Verb(Value):
    """One command.

    words: Its operands, as help shows them; one in brackets may be left out, one with dots is
        any number of words.
    literal: A word that begins with one dash is a message, unless it is an option of the table.
    """

    name: str
    words: tuple[str, ...]
    options: tuple[Option, ...]
    help: str
    example: str
    exits: str
    literal: bool = False


class Line(Value):
    """What a command line asks for: a verb, and what its options and operands say."""

    verb: str
    dir: str | None = None
    file: str | None = None
    quiet: bool = False
    queue: str | None = None
    target: str | None = None
    message: str | None = None
    id: str | None = None
    all: bool = False
    json: bool = False
    timestamps: bool = False
    after: str | None = None
    before: str | None = None
    wait: str | None = None
    newest: bool = False
    lines: bool = False
    ndjson: bool = False
    delay: str | None = None
    priority: str | None = None
    stats: bool = False
    prefix: str | None = None
    pattern: str | None = None
    lease: str | None = None
    limit: str | None = None
    hold: str | None = None
    receipt: str | None = None
    receipts: tuple[str, ...] = ()
    error: str | None = None
    max_attempts: str | None = None
    dead_letter: str | None = None
    dead: bool = False
    release: bool = False
    timeout: str | None = None
    command: tuple[str, ...] = ()
    peek: bool = False
    move: str | None = None
    alias: str | None = None
    force: bool = False
    queues: tuple[str, ...] = ()
    path: str | None = None
    shell: str | None = None
    compact: bool = False


Values = dict[str, "str | bool | tuple[str, ...]"]  # fields of `Line` by name

FIELDS: Final = {
    "QUEUE": "queue",
    "SOURCE": "queue",
    "OLD": "queue",
    "TARGET": "target",
    "NEW": "target",
    "MESSAGE": "message",
    "ID": "id",
    "ALIAS": "alias",
    "RECEIPT": "receipt",
    "RECEIPT...": "receipts",
    "COMMAND...": "command",
    "QUEUE...": "queues",
    "FILE": "path",
    "SHELL": "shell",
}

GLOBAL: Final = (
    Option(("-d", "--dir"), "dir", "Work in PATH instead of the current directory.", "PATH"),
    Option(("-f", "--file"), "file", "Database file (default: .broker.db).", "NAME"),
    Option(("-q", "--quiet"), "quiet", "Say nothing but errors."),
)
