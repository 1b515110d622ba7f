"""The verbs that click alone reads."""

from __future__ import annotations

from typing import Final

from brokerrun.cli.grammar import Option, Verb
from brokerrun.cli.hot_verbs import AFTER, JSON, PATTERN, PREFIX, STAMPS, WAIT

_QUIET = Option(("-q", "--quiet"), "quiet", "Say nothing but errors.")
_ATTEMPTS = Option(
    ("--max-attempts",), "max_attempts", "Attempts before the dead-letter queue (default: 4).", "N"
)
_DEAD_LETTER = Option(
    ("--dead-letter",), "dead_letter", "The dead-letter queue (default: QUEUE.dlq).", "QUEUE"
)

_VERBS = (
    Verb(
        "broadcast",
        ("MESSAGE",),
        (PATTERN, JSON),
        "Store MESSAGE in every queue there is; '-' takes it from standard input.",
        "broker broadcast --pattern 'jobs-*' 'pipeline paused'",
        "0 stored, 1 error, 2 no queue to store it in.",
        literal=True,
    ),
    Verb(
        "watch",
        ("QUEUE",),
        (
            Option(("--peek",), "peek", "Print messages and leave them."),
            Option(("--move",), "move", "Move messages to this queue and print them.", "QUEUE"),
            JSON,
            STAMPS,
            AFTER,
            _QUIET,
        ),
        "Print the messages of QUEUE as they come, and remove them.",
        "broker watch tasks --peek --json",
        "0 stopped by a signal or a closed pipe, 1 error.",
    ),
    Verb(
        "alias add",
        ("ALIAS", "QUEUE"),
        (_QUIET, JSON),
        "Let @ALIAS stand for QUEUE.",
        "broker alias add inbox agent1-to-agent2",
        "0 added, 1 error.",
    ),
    Verb(
        "alias remove",
        ("ALIAS",),
        (_QUIET, JSON),
        "Forget an alias. The messages of its queue stay.",
        "broker alias remove inbox",
        "0 removed, 1 error, or no such alias.",
    ),
    Verb(
        "alias list",
        (),
        (
            Option(("--target",), "target", "Only aliases of this queue.", "QUEUE"),
            _QUIET,
            JSON,
        ),
        "List the aliases and the queues that they stand for.",
        "broker alias list --target agent1-to-agent2",
        "0 done, 1 error, 2 no alias of the --target.",
    ),
    Verb(
        "init",
        (),
        (Option(("--force",), "force", "Accepted; an existing database is never changed."), JSON),
        "Make the database in the current directory.",
        "broker init",
        "0 made, or there already, 1 error.",
    ),
    Verb(
        "nack",
        ("RECEIPT",),
        (
            Option(("--delay",), "delay", "Ready again after exactly so long.", "DURATION"),
            Option(("--error",), "error", "What went wrong, for its history.", "TEXT"),
            Option(("--dead",), "dead", "To the dead-letter queue now."),
            Option(("--release",), "release", "Give it back as if it had never been claimed."),
            _ATTEMPTS,
            _DEAD_LETTER,
            JSON,
        ),
        "End a claim in failure: try again after a wait that doubles, or to the dead letters.",
        'broker nack "$receipt" --error "exit status $?"',
        "0 done, 1 error, 2 the claim was lost: its lease was over.",
    ),
    Verb(
        "extend",
        ("RECEIPT",),
        (Option(("--lease",), "lease", "So long from now (default: 60s).", "DURATION"), JSON),
        "Hold a claimed message longer.",
        'broker extend "$receipt" --lease 5m',
        "0 done, 1 error, 2 the claim was lost: its lease was over.",
    ),
    Verb(
        "exec",
        ("QUEUE", "COMMAND..."),
        (
            Option(("--all",), "all", "Until the queue is empty (default: one message)."),
            Option(("--timeout",), "timeout", "Kill a command that takes longer.", "DURATION"),
            WAIT,
            _ATTEMPTS,
            _DEAD_LETTER,
        ),
        "Run COMMAND with the oldest message on its standard input. Its exit status says what "
        "becomes of the message: 0 done, 75 try again, 65 or 78 to the dead letters, another one "
        "try again up to --max-attempts times.",
        "broker exec tasks --all -- ./handle.sh --verbose",
        "0 handled, 1 error or the command failed, 2 nothing ready.",
    ),
    Verb(
        "history",
        ("ID",),
        (JSON,),
        "Print the attempts of a message that did not end in success.",
        "broker history 1837025672140161024",
        "0 printed, 1 error, 2 there are none.",
    ),
    Verb(
        "rename",
        ("OLD", "NEW"),
        (JSON,),
        "Give a queue another name, with its messages, claims and aliases.",
        "broker rename tasks tasks.old",
        "0 renamed, 1 error, 2 there is no such queue.",
    ),
    Verb(
        "dump",
        ("[QUEUE...]",),
        (PREFIX, PATTERN),
        "Print messages as JSON lines that `broker load` takes; all queues and aliases by default.",
        "broker dump > backup.ndjson",
        "0 done, 1 error.",
    ),
    Verb(
        "load",
        ("[FILE]",),
        (JSON,),
        "Store what `broker dump` printed, ids and order kept; all or nothing.",
        "broker load backup.ndjson",
        "0 stored, 1 error.",
    ),
    Verb(
        "import",
        ("FILE",),
        (JSON,),
        "Take over the messages and aliases of a SimpleBroker database, which stays as it is.",
        "broker -f queue.db import .broker.db",
        "0 stored, 1 error.",
    ),
    Verb(
        "completion",
        ("SHELL",),
        (),
        "Print the completion script for bash, zsh or fish.",
        'eval "$(broker completion bash)"',
        "0 printed, 1 error.",
    ),
)

RARE: Final = {verb.name: verb for verb in _VERBS}

# These stand alone, in the place of a command.
STATUS = Option(("--status",), "status", "Count all messages, and show the newest id and the size.")
VACUUM = Option(("--vacuum",), "vacuum", "Remove the messages that were read for good.")
CLEANUP = Option(("--cleanup",), "cleanup", "Delete the database.")
COMPACT = Option(("--compact",), "compact", "With --vacuum: give the space back.")
ALONE: Final = (STATUS, VACUUM, CLEANUP)
