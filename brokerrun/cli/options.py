"""The command line of `broker`: one table, and the small parser that reads it.

Start-up is what a shell script pays for each message, and click costs as much as all the rest
together. `parse` therefore reads the usual command lines itself; where it is not certain, it says
so, and click reads the same table (`full_parser`). A test proves that both give one answer.
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

    words: Its operands, as help shows them; one in brackets may be left out.
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
    """What a command line asks for."""

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
    lines: bool = False
    stats: bool = False
    prefix: str | None = None
    pattern: str | None = None


Values = dict[str, str | bool]  # fields of `Line` by name

FIELDS: Final = {
    "QUEUE": "queue",
    "SOURCE": "queue",
    "TARGET": "target",
    "MESSAGE": "message",
    "ID": "id",
}

GLOBAL: Final = (
    Option(("-d", "--dir"), "dir", "Work in PATH instead of the current directory.", "PATH"),
    Option(("-f", "--file"), "file", "Database file (default: .broker.db).", "NAME"),
    Option(("-q", "--quiet"), "quiet", "Say nothing but errors."),
)
_JSON = Option(("--json",), "json", "Print JSON, one object a line.")
_STAMPS = Option(("-t", "--timestamps"), "timestamps", "Print each id and a tab first.")
_ID = Option(("-m", "--message"), "id", "Only the message with this id (19 digits).", "ID")
_BOUNDS = (
    Option(
        ("--after", "--since"),
        "after",
        "Only messages after TIME: an id, an ISO date, Unix seconds.",
        "TIME",
    ),
    Option(("--before",), "before", "Only messages before TIME.", "TIME"),
)


def _all(what: str) -> Option:
    return Option(("--all",), "all", what)


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb(
            "write",
            ("QUEUE", "[MESSAGE]"),
            (
                Option(
                    ("--lines",), "lines", "Each line of standard input is a message; all or none."
                ),
                Option(("-t", "--timestamps"), "timestamps", "Print the new id."),
                Option(("--json",), "json", "Print the new id as JSON."),
            ),
            "Store MESSAGE in QUEUE; '-' or no MESSAGE takes it from standard input.",
            "broker write tasks 'resize 17.png'",
            "0 stored, 1 error.",
            literal=True,
        ),
        Verb(
            "read",
            ("QUEUE",),
            (_all("Read every ready message (default: one)."), _JSON, _STAMPS, _ID, *_BOUNDS),
            "Remove the oldest ready message from QUEUE and print it.",
            "broker read tasks --json",
            "0 read, 1 error, 2 nothing to read.",
        ),
        Verb(
            "peek",
            ("QUEUE",),
            (_all("Print every message (default: one)."), _JSON, _STAMPS, _ID, *_BOUNDS),
            "Print the oldest message of QUEUE and leave it there.",
            "broker peek tasks --all -t",
            "0 printed, 1 error, 2 nothing there.",
        ),
        Verb(
            "move",
            ("SOURCE", "TARGET"),
            (_all("Move every ready message (default: one)."), _JSON, _STAMPS, _ID, *_BOUNDS),
            "Move ready messages from SOURCE to TARGET, oldest first, and print them.",
            "broker move failed tasks --all",
            "0 moved, 1 error, 2 nothing to move.",
        ),
        Verb(
            "delete",
            ("[QUEUE]",),
            (_all("Delete the messages of all queues."), _ID),
            "Delete the messages of QUEUE, or one of them.",
            "broker delete tasks -m 1837025672140161024",
            "0 done, 1 error, 2 no message with that id.",
        ),
        Verb(
            "list",
            (),
            (
                Option(("--stats",), "stats", "Count read messages too, and show their queues."),
                Option(("--prefix",), "prefix", "Only queues whose names begin so.", "P"),
                Option(("-p", "--pattern"), "pattern", "Only queues that match.", "GLOB"),
                _JSON,
            ),
            "List the queues and how many messages wait in each.",
            "broker list --pattern 'mail.*'",
            "0 done, 1 error.",
        ),
        Verb(
            "stats",
            ("QUEUE",),
            (_JSON,),
            "Count the messages of QUEUE.",
            "broker stats tasks --json",
            "0 done, 1 error.",
        ),
        Verb(
            "exists",
            ("QUEUE",),
            (_JSON,),
            "Tell whether QUEUE holds a message, read ones included.",
            "broker exists tasks || echo empty",
            "0 it does, 1 error, 2 it does not.",
        ),
        Verb(
            "history",
            ("ID",),
            (_JSON,),
            "Print the attempts of a message that did not end in success.",
            "broker history 1837025672140161024",
            "0 printed, 1 error, 2 there are none.",
        ),
    )
}


def parse(words: list[str]) -> Line | None:
    """Read a command line; None where only click can say what is meant or what is wrong."""
    values: Values = {}
    position = 0
    while position < len(words) and words[position].startswith("-"):
        taken = _take(GLOBAL, words, position, values)
        if not taken:
            return None
        position += taken
    verb = VERBS.get(words[position]) if position < len(words) else None
    if verb is None:
        return None
    operands = _operands(verb, words[position + 1 :], values)
    if operands is None or not _place(verb, operands, values):
        return None
    return line_of(verb, values)


def line_of(verb: Verb, values: Values) -> Line:
    """Build the line of *verb*."""
    return Line(verb=verb.name, **values)  # type: ignore[arg-type]


def is_message(word: str) -> bool:
    """Tell a message that begins with a dash from an option, misspelt or not.

    `-5`, `- x`, `--- a/file` are messages, as SimpleBroker takes them; `--word` never is.
    """
    return not (word.startswith("--") and word[2:3].isalpha() and " " not in word.partition("=")[0])


def arrange(verb: Verb, words: list[str]) -> list[str]:
    """Rewrite the words after *verb* so that click means by them what `parse` does.

    `-m=ID` becomes two words, an unambiguous beginning of an option the whole of it (SimpleBroker
    takes both); of a literal verb, what is a message is put behind `--`.
    """
    options: list[str] = []
    operands: list[str] = []
    position = 0
    while position < len(words) and words[position] != "--":
        word = words[position]
        taken = _take(verb.options, words, position, {})
        if taken == 1 or (taken == 0 and not verb.literal):
            options += _separate(verb, word)
        elif taken:
            options += words[position : position + 2]
        else:
            (operands if word[:1] != "-" or is_message(word) else options).append(word)
        position += taken or 1
    rest = words[position + 1 :]
    return [*options, "--", *operands, *rest] if operands or rest else options


def arrange_global(words: list[str]) -> list[str]:
    """Rewrite the words before the command: `-f=NAME` becomes two."""
    arranged: list[str] = []
    position = 0
    while position < len(words) and words[position].startswith("-"):
        taken = _take(GLOBAL, words, position, {})
        word = words[position]
        arranged += words[position : position + 2] if taken == 2 else _halves(GLOBAL, word)
        position += taken or 1
    return arranged + words[position:]


def _separate(verb: Verb, word: str) -> list[str]:
    name, equals, value = word.partition("=")
    names = [long for option in verb.options for long in option.names if long.startswith(name)]
    if name.startswith("--") and len(name) > 2 and len(names) == 1 and not verb.literal:
        return [names[0] + equals + value]
    return _halves(verb.options, word)


def _halves(options: tuple[Option, ...], word: str) -> list[str]:
    name, equals, value = word.partition("=")
    short = len(name) == 2 and any(name in option.names and option.metavar for option in options)
    return [name, value] if equals and short else [word]


def _take(options: tuple[Option, ...], words: list[str], at: int, values: Values) -> int:
    """Read the option at *at* into *values*; return how many words it took, 0 if uncertain."""
    name, equals, value = words[at].partition("=")
    option = next((option for option in options if name in option.names), None)
    if option is None or (equals and option.metavar is None):
        return 0
    if option.metavar is None:
        values[option.field] = True
        return 1
    if not equals:
        value = words[at + 1] if at + 1 < len(words) else "-"
    if value.startswith("-"):
        return 0
    values[option.field] = value
    return 1 if equals else 2


def _operands(verb: Verb, words: list[str], values: Values) -> list[str] | None:
    found: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            return found + words[position + 1 :]
        taken = _take(verb.options, words, position, values) if word.startswith("-") else 0
        if not taken:
            if word.startswith("-") and not (verb.literal and is_message(word)):
                return None
            found.append(word)
        position += taken or 1
    return found


def _place(verb: Verb, operands: list[str], values: Values) -> bool:
    least = sum(not word.startswith("[") for word in verb.words)
    if not least <= len(operands) <= len(verb.words):
        return False
    for word, operand in zip(verb.words, operands, strict=False):
        values[FIELDS[word.strip("[]")]] = operand
    return True
