"""Shell completion, by click: commands, options, and the queues that there are."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from brokerrun.cli.broker import COMPLETE
from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, emit
from brokerrun.cli.place import open_broker, read_place
from brokerrun.errors import BrokerrunError, UsageError

SHELLS: Final = ("bash", "zsh", "fish")


@add_completion_class
class _Bash(BashComplete):
    """Reads the line itself: bash breaks words at `@` and `=`."""

    source_template = BashComplete.source_template.replace(
        'COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD',
        'COMP_LINE="${COMP_LINE:0:COMP_POINT}"',
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        incomplete = words.pop() if line[-1:].strip() else ""
        return words[1:], incomplete


def completion(line: Line) -> int:
    """Print the script that a shell loads: `eval "$(broker completion bash)"`."""
    from brokerrun.cli.full_parser import command_line

    kind = get_completion_class(line.shell or "") if line.shell in SHELLS else None
    if kind is None:
        raise UsageError(f"unknown shell {line.shell!r}: expected one of {', '.join(SHELLS)}")
    emit([kind(command_line(), {}, "broker", COMPLETE).source().rstrip("\n")])
    return DONE


def answer(instruction: str) -> int:
    """Answer what a shell asks while somebody types."""
    from click.shell_completion import shell_complete

    from brokerrun.cli.full_parser import command_line

    return shell_complete(command_line(), {}, "broker", COMPLETE, instruction)


def complete_queue(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """List the queues and aliases that begin so; nothing where the database cannot be looked at."""
    place = context.find_root().params
    names: list[str] = []
    with suppress(BrokerrunError):
        line = Line("list", dir=place.get("dir"), file=place.get("file"))
        with open_broker(read_place(line), create=False) as broker:
            names = [queue.queue for queue in broker.queues()]
            names += [f"@{name}" for name, _ in broker.store.aliases()]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
