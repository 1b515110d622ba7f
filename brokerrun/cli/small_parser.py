"""The parser of the usual command lines.

Start-up is what a shell script pays for each message, and click costs as much as all the rest
together. `parse` therefore reads by the table of the hot verbs itself; where it is not certain, it
says so, and click reads that table and the one of the rare verbs (`full_parser`). A test proves
that both give one answer.
"""

from __future__ import annotations

from brokerrun.cli.grammar import FIELDS, GLOBAL, Line, Option, Values, Verb
from brokerrun.cli.hot_verbs import HOT


def parse(words: list[str]) -> Line | None:
    """Read a command line; None where only click can say what is meant or what is wrong."""
    values: Values = {}
    position = 0
    while position < len(words) and words[position].startswith("-"):
        taken = _take(GLOBAL, words, position, values)
        if not taken:
            return None
        position += taken
    verb = HOT.get(words[position]) if position < len(words) else None
    if verb is None:
        return None
    operands = _operands(verb, words[position + 1 :], values)
    if operands is None or not _place(verb, operands, values):
        return None
    return line_of(verb.name, values)


def line_of(verb: str, values: Values) -> Line:
    """Build the line of a verb."""
    return Line(verb=verb, **values)  # type: ignore[arg-type]


def is_option(value: str) -> bool:
    """Tell a word that can be no value: it begins with a dash, and is no number."""
    return value.startswith("-") and not value[1:].isdigit()


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
    if is_option(value):
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
    words = verb.words
    least = sum(not word.startswith("[") for word in words)
    many = bool(words) and words[-1].endswith("...")
    if len(operands) < least or (len(operands) > len(words) and not many):
        return False
    if many:
        values[FIELDS[words[-1]]] = tuple(operands[len(words) - 1 :])
        words = words[:-1]
    for word, operand in zip(words, operands, strict=False):
        values[FIELDS[word.strip("[]")]] = operand
    return True
