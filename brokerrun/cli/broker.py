"""The `broker` command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from brokerrun.cli.options import Line, parse
from brokerrun.cli.output import (
    DONE,
    INTERRUPTS,
    Interrupted,
    OutputError,
    complain,
    emit,
    give_up_output,
)
from brokerrun.core.target import find_database
from brokerrun.errors import BrokerrunError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final, NoReturn

# Verb -> module and function: each command loads its own alone.
_HOMES: Final = {
    "write": ("messages", "write"),
    "read": ("messages", "read"),
    "peek": ("messages", "peek"),
    "move": ("messages", "move"),
    "delete": ("messages", "delete"),
    "list": ("queues", "list_queues"),
    "stats": ("queues", "stats"),
    "exists": ("queues", "exists"),
    "history": ("history", "history"),
}


def main() -> NoReturn:
    """Run the command line of this process, and end with its exit status."""
    INTERRUPTS.install()
    try:
        status = run(sys.argv[1:])
    except Interrupted as interrupted:
        give_up_output()
        status = interrupted.exit_status
    sys.exit(status)


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
    return _verb(line.verb)(line, find_database(line.dir, line.file))


def _verb(name: str) -> Callable[[Line, str], int]:
    module, function = _HOMES[name]
    verb: Callable[[Line, str], int] = getattr(import_module(f"brokerrun.cli.{module}"), function)
    return verb


def _sentence(error: OSError) -> str:
    what = "standard output" if error.filename is None else str(error.filename)
    return f"{what}: {error.strerror or error}"


if __name__ == "__main__":
    main()
