"""What people call things: which names are refused, and how a sentence repeats a wrong one.

Regular expressions and difflib are loaded only where a sentence needs them: see bench/startup.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

MAX_COMPONENT: Final = 255
_SHOWN: Final = 80  # characters
# What a shell or a terminal would take for its own; SimpleBroker 3.6.1 refuses the same.
_REFUSED: Final = frozenset("|&;$`\"'<>(){}[]*?~^!#\0\r\n\t\x7f")
_SECRETS: Final = (
    (r"(?s)://.*@", "://***@"),
    (
        r"(?i)(pass(?:word|wd|phrase)?|pwd|secret|token)([\"']?\s*[=:]\s*)"
        r"('(?:\\.|[^'\\])*'?|\"(?:\\.|[^\"\\])*\"?|[^\s&;]*)",
        r"\1\2***",
    ),
)


def fault_of(path: str) -> str | None:
    """Return what is wrong with a path that a command line or a variable names."""
    parts = path.split("/")
    if bad := sorted(_REFUSED.intersection(path)):
        return f"has {bad[0]!r} in it: shell and control characters are refused"
    if not path or "." in parts or ".." in parts:
        return "is no name without '.' and '..' as parts"
    if any(part != part.strip(" ") or len(part) > MAX_COMPONENT for part in parts):
        return "has a part that begins or ends with a space, or is too long"
    return None


def shown(value: object) -> str:
    """Return *value* as a sentence may repeat it: short, and without secrets.

    What stands before the host of a URL, or after `password=`, is a secret.
    """
    import re

    text = str(value)
    for secret, instead in _SECRETS:
        text = re.sub(secret, instead, text)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question for the name that was meant; empty where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, tuple(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
