"""Where ours answers otherwise than SimpleBroker 3.6.1, and why.

Each row names a case and a line of it, what ours does there, and the reason. A field that is
None is as recorded; one that is given must differ from the record. Rows and sections are those
of `research/parity.md`; the documents are SimpleBroker's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Difference:
    case: str
    line: str
    why: str
    exit: int | None = None
    out: str | None = None
    spoke: bool | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What is not as recorded: field of an answer -> ours."""
        fields = {"exit": self.exit, "out": self.out, "spoke": self.spoke}
        return {name: value for name, value in fields.items() if value is not None}


_NEWLINE: Final = "section 2: a warning about a newline in a body is optional"
_SINCE: Final = "row 1: --since is --after"
_PHYSICAL: Final = "row 2: delete -m removes the row at once"
_MALFORMED: Final = "row 3: a malformed id is an error with a message that names it"
_FLAGS_ARE_REFUSED: Final = "row 14: init takes neither -d nor -f"
_NAMED: Final = "row 24 and section 5: a bad value of a setting is refused, named"
_TERM: Final = "sections 4 and 5: SIGTERM ends a watch as SIGINT does"
_QUIET: Final = "row 11: watch takes --quiet after the command"
_ID: Final = 'id() { sed -n "$1p" ids; }; '

_NO_OPTION: Final = "section 4: an option, misspelt or not, is never stored as a message"

DIFFERENCES: Final = (
    *(
        Difference("dashes-in-messages", line, _NO_OPTION, exit=1, spoke=True)
        for line in ("broker write q --dir=x", "broker write q --all", "broker write q --cleanup")
    ),
    Difference("dashes-in-messages", "broker list", _NO_OPTION, out="q: 6\n"),
    Difference(
        "places-from-the-environment",
        "BROKER_DEFAULT_DB_LOCATION=relative broker list",
        _NAMED,
        exit=1,
    ),
    Difference(
        "no-command",
        "broker --  # prose",
        "the same as `broker` alone: help",
        exit=0,
        out="<prose>",
        spoke=False,
    ),
    Difference("quick-start", "broker read myqueue --all", _NEWLINE, spoke=False),
    Difference("dead-letter", "broker peek dlq --all", _NEWLINE, spoke=False),
    Difference("dead-letter", "broker move dlq tasks --all", _NEWLINE, spoke=False),
    Difference("bodies", "broker peek q --all", _NEWLINE, spoke=False),
    Difference("newlines-in-bodies", "broker peek q --all", _NEWLINE, spoke=False),
    Difference("newlines-in-bodies", "broker -q read q --all", _NEWLINE, spoke=False),
    Difference("broadcast", "broker peek jobs-1 --all", _NEWLINE, spoke=False),
    Difference("broadcast", "broker peek mail --all", _NEWLINE, spoke=False),
    Difference(
        "resilient-worker",
        "broker peek events --json --since 0",
        _SINCE,
        exit=0,
        out='{"message": "a", "timestamp": <id1>}\n',
        spoke=False,
    ),
    Difference(
        "bounds",
        _ID + "broker peek r --all --since $(id 1)",
        _SINCE,
        exit=0,
        out="b\n",
        spoke=False,
    ),
    Difference("delete", "broker stats r", _PHYSICAL, out="r: 1\n"),
    *(
        Difference("malformed-ids", line, _MALFORMED, spoke=True)
        for line in (
            "broker read q -m 12",
            "broker peek q -m abc",
            "broker move q r -m 123456789012345678",
            "broker delete q -m 12345678901234567890",
            "broker read q -m ''",
            "broker peek q -m 1837025672140161024ns",
            "broker peek q -m 9223372036854775808",
            "broker read q -m 12 --all",
        )
    ),
    Difference(
        "malformed-ids",
        "broker delete q -m 9223372036854775808",
        "section 2: an id above 2^63-1 is malformed",
        exit=1,
        spoke=True,
    ),
    Difference(
        "bad-times",
        "broker peek q --after 1_000_000_000",
        "section 2: times are digits only, no underscores",
        exit=1,
        out="",
        spoke=True,
    ),
    Difference(
        "alias-to-no-name",
        "broker alias add good 'not a name'",
        "documents, on aliases: the target must be a real queue name",
        exit=1,
        spoke=True,
    ),
    Difference(
        "alias-to-no-name",
        "broker alias list",
        "the alias of the line above was refused",
        out="",
    ),
    Difference(
        "alias-that-shadows",
        "broker -q alias add shadow2 q",
        "section 4: -q suppresses the warning that an alias shadows a queue",
        spoke=False,
    ),
    Difference(
        "names",
        "broker write $'a\\n' x",
        "section 4: a name that ends with a newline is none",
        exit=1,
        spoke=True,
    ),
    Difference(
        "names",
        "broker list  # once more",
        "section 4: the name that ends with a newline was refused above",
        out="1.2-3_4: 1\nA: 1\n_: 1\na-: 1\na.: 1\n",
    ),
    Difference(
        "help",
        "broker write --help q  # prose",
        "section 4: help of write is help",
        exit=0,
        out="<prose>",
        spoke=False,
    ),
    Difference(
        "vacuum",
        "broker --vacuum --json",
        "the options that stand alone take --json (ours)",
        exit=0,
        out='{"vacuumed": 0, "compacted": false}\n',
        spoke=False,
    ),
    Difference("init", "mkdir flags; broker -d flags init", _FLAGS_ARE_REFUSED, exit=1),
    Difference("init", "broker -f flags.db init", _FLAGS_ARE_REFUSED, exit=1),
    Difference(
        "project-scope",
        "mkdir project/a/near; cd project/a/near && broker -q init; test -f .broker.db",
        "row 13: init is for the current directory",
        exit=0,
    ),
    Difference(
        "broker-toml",
        "cd project/sub && BROKER_DEFAULT_DB_LOCATION=/tmp broker peek q",
        "documents, on precedence: the location is ignored with project scope on",
        exit=0,
        out="found\n",
        spoke=False,
    ),
    Difference(
        "places-from-the-environment",
        'cd here && BROKER_DEFAULT_DB_LOCATION="$HOME/there" BROKER_PROJECT_SCOPE=1 broker peek q',
        "documents, on precedence: the location is ignored with project scope on",
        exit=1,
        out="",
        spoke=True,
    ),
    Difference(
        "places-from-the-environment",
        'BROKER_DEFAULT_DB_LOCATION="$PWD/there" broker -d sub write q flag;'
        " find sub there -name .broker.db | sort",
        "row 15: flags win over BROKER_DEFAULT_DB_LOCATION",
        out="sub/.broker.db\nthere/.broker.db\n",
    ),
    Difference(
        "settings",
        "BROKER_AUTO_VACUUM=true broker list",
        "documents: the default of BROKER_AUTO_VACUUM is spelt true",
        exit=0,
        out="q: 2\n",
        spoke=False,
    ),
    Difference(
        "settings", "BROKER_SYNC_MODE=sometimes broker write q 7", _NAMED, exit=1, spoke=True
    ),
    Difference("settings", "BROKER_WAL_AUTOCHECKPOINT=-1 broker write q 8", _NAMED, exit=1),
    Difference(
        "watch-quietly",
        "broker watch q --peek --quiet  # INT after 1",
        _QUIET,
        exit=0,
        out="b\n",
        spoke=False,
    ),
    Difference(
        "watch-quietly",
        "broker watch q --quiet  # INT after 1",
        _QUIET,
        exit=0,
        out="b\n",
        spoke=False,
    ),
    Difference("watch-is-terminated", "broker watch q --peek  # TERM after 2", _TERM, exit=0),
    Difference("watch-is-terminated", "broker watch q --move r  # TERM after 2", _TERM, exit=0),
    Difference("watch-is-terminated", "broker watch r  # TERM after 2", _TERM, exit=0),
    Difference(
        "watch-under-timeout",
        "broker write q b; timeout --preserve-status 3 broker watch q --json",
        _TERM,
        exit=0,
    ),
)
