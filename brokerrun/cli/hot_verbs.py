"""The verbs that scripts call for each message. Both parsers read this table."""

from __future__ import annotations

from brokerrun.cli.grammar import Option, Verb
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

JSON = Option(("--json",), "json", "Print JSON, one object a line.")
STAMPS = Option(("-t", "--timestamps"), "timestamps", "Print each id and a tab first.")
ID = Option(("-m", "--message"), "id", "Only the message with this id (19 digits).", "ID")
AFTER = Option(
    ("--after", "--since"),
    "after",
    "Only messages after TIME: an id, an ISO date, Unix seconds.",
    "TIME",
)
BEFORE = Option(("--before",), "before", "Only messages before TIME.", "TIME")
WAIT = Option(("--wait",), "wait", "Wait so long for a message, like 5s.", "DURATION")
PREFIX = Option(("--prefix",), "prefix", "Only queues whose names begin so.", "P")
PATTERN = Option(("-p", "--pattern"), "pattern", "Only queues that match.", "GLOB")


def _all(what: str) -> Option:
    return Option(("--all",), "all", what)


_VERBS = (
    Verb(
        "write",
        ("QUEUE", "[MESSAGE]"),
        (
            Option(("--lines",), "lines", "Each line of standard input is a message; all or none."),
            Option(
                ("--ndjson",),
                "ndjson",
                'Each line is JSON: "text" or {"message": "text", "delay": "5s", "priority": 1}.',
            ),
            Option(("--delay",), "delay", "Not to be taken before so long, like 30s.", "DURATION"),
            Option(("--priority",), "priority", "Smaller goes first (default: 0).", "N"),
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
        (
            _all("Read every ready message (default: one)."),
            JSON,
            STAMPS,
            ID,
            AFTER,
            BEFORE,
            WAIT,
        ),
        "Remove the oldest ready message from QUEUE and print it.",
        "broker read tasks --json",
        "0 read, 1 error, 2 nothing to read.",
    ),
    Verb(
        "peek",
        ("QUEUE",),
        (
            _all("Print every message (default: one)."),
            Option(("--newest",), "newest", "Print the newest message instead of the oldest."),
            JSON,
            STAMPS,
            ID,
            AFTER,
            BEFORE,
        ),
        "Print the oldest message of QUEUE and leave it there.",
        "broker peek tasks --all -t",
        "0 printed, 1 error, 2 nothing there.",
    ),
    Verb(
        "move",
        ("SOURCE", "TARGET"),
        (_all("Move every ready message (default: one)."), JSON, STAMPS, ID, AFTER, BEFORE),
        "Move ready messages from SOURCE to TARGET, oldest first, and print them. Their ids stay: "
        "who goes on in TARGET with --after a newer id does not see them.",
        "broker move failed tasks --all",
        "0 moved, 1 error, 2 nothing to move.",
    ),
    Verb(
        "delete",
        ("[QUEUE]",),
        (_all("Delete the messages of all queues."), ID, JSON),
        "Delete the messages of QUEUE, or one of them.",
        "broker delete tasks -m 1837025672140161024",
        "0 done, 1 error, 2 no message with that id.",
    ),
    Verb(
        "list",
        (),
        (
            Option(("--stats",), "stats", "Count read messages too, and show their queues."),
            PREFIX,
            PATTERN,
            JSON,
        ),
        "List the queues and how many messages wait in each.",
        "broker list --pattern 'mail.*'",
        "0 done, 1 error.",
    ),
    Verb(
        "stats",
        ("QUEUE",),
        (JSON,),
        "Count the messages of QUEUE.",
        "broker stats tasks --json",
        "0 done, 1 error.",
    ),
    Verb(
        "exists",
        ("QUEUE",),
        (JSON,),
        "Tell whether QUEUE holds a message, read ones included.",
        "broker exists tasks || echo empty",
        "0 it does, 1 error, 2 it does not.",
    ),
    Verb(
        "claim",
        ("QUEUE",),
        (
            Option(("--lease",), "lease", "Hold so long (default: 60s).", "DURATION"),
            Option(("--limit",), "limit", "Claim up to N messages (default: 1).", "N"),
            Option(("--hold",), "hold", "Show them in this queue meanwhile.", "QUEUE"),
            WAIT,
            JSON,
        ),
        "Hold the oldest ready message of QUEUE for a while, and print its receipt, a tab and it.",
        "receipt=$(broker claim tasks --json | jq -r .receipt)",
        "0 claimed, 1 error, 2 nothing ready.",
    ),
    Verb(
        "ack",
        ("RECEIPT...",),
        (JSON,),
        "End claims in success: their messages are gone.",
        'broker ack "$receipt"',
        "0 all ended, 1 error, 2 a claim was lost: its lease was over.",
    ),
)

HOT: Final = {verb.name: verb for verb in _VERBS}
