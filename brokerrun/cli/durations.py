"""Options of `brokerrun` that are durations: written as in workers.toml, '30s'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from brokerrun.supervisor.units import duration

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """A duration with its unit, as float seconds."""

    name = "duration"

    def convert(self, value: Any, param: object, ctx: object) -> float:
        if isinstance(value, float):
            return value
        try:
            return duration(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error


def timeout_option(
    default: str, words: str = "Longest wait for the answer."
) -> Callable[[Command], Command]:
    """Make the option that bounds a wait."""
    return click.option(
        "--timeout",
        type=Duration(),
        default=default,
        show_default=True,
        help=words,
    )
