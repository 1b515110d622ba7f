"""The `broker` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import (
    DONE,
    INTERRUPTS,
    Interrupted,
    OutputError,
    complain,
    emit,
    give_up_output,
)
from brokerrun.cli.small_parser import parse
from brokerrun.errors import BrokerrunError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final, NoReturn

COMPLETE: Final = "_BROKER_COMPLETE"  # what the completion script of a shell sets

# Verb -> module and function: each command loads its own alone.
_HOMES: Final = {
    "write": ("writing", "write"),
    "read": ("messages", "read"),
    "peek": ("messages", "peek"),
    "move": ("messages", "move"),
    "delete": ("messages", "delete"),
    "list": ("queues", "list_queues"),
    "claim": ("leases", "claim"),
    "ack": ("leases", "ack"),
    "nack": ("leases", "nack"),
    "extend": ("leases", "extend"),
    "exec": ("running", "run"),
    "stats": ("queues", "stats"),
    "exists": ("queues", "exists"),
    "rename": ("queues", "rename"),
    "broadcast": ("writing", "broadcast"),
    "watch": ("watching", "watch"),
    "alias add": ("aliases", "add"),
    "alias remove": ("aliases", "remove"),
    "alias list": ("aliases", "list_aliases"),
    "init": ("upkeep", "init"),
    "--status": ("upkeep", "status"),
    "--vacuum": ("upkeep", "vacuum"),
    "--cleanup": ("upkeep", "cleanup"),
    "history": ("history", "history"),
    "dump": ("transfer", "dump"),
    "load": ("transfer", "load"),
    "import": ("transfer", "take_over"),
    "completion": ("completion", "completion"),
}


def main() -> NoReturn:
    """Run the command line of this process, and end with its exit status."""
    INTERRUPTS.install()
    try:
        asked = os.environ.get(COMPLETE)
        status = run(sys.argv[1:]) if asked is None else _complete(asked)
    except Interrupted as interrupted:
        give_up_output()
        status = interrupted.exit_status
    sys.exit(status)


def _complete(asked: str) -> int:
    from brokerrun.cli.completion import answer

    return answer(asked)


def run(words: list[str]) -> int:
    """Run one command line; return 0 done, 1 error, 2 empty or no match."""
    json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        return _run(words)
    except BrokenPipeError:
        give_up_output()
        return DONE
    except BrokerrunError as error:
        if isinstance(error, OutputError):
            give_up_output()
        return complain(error, json=json)
    except OSError as error:
        give_up_output()
        return complain(OutputError(_sentence(error)), json=json)


def _run(words: list[str]) -> int:
    line = parse(words)
    if line is None:
        from brokerrun.cli.full_parser import parse_fully

        read = parse_fully(words)
        if isinstance(read, str):
            emit([read.removesuffix("\n")])
            return DONE
        line = read
    return _verb(line.verb)(line)


def _verb(name: str) -> Callable[[Line], int]:
    module, function = _HOMES[name]
    verb: Callable[[Line], int] = getattr(import_module(f"brokerrun.cli.{module}"), function)
    return verb


def _sentence(error: OSError) -> str:
    what = "standard output" if error.filename is None else str(error.filename)
    return f"{what}: {error.strerror or error}"


if __name__ == "__main__":
    main()
