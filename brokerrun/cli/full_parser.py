"""The command line of `broker`, read by click from the table of `options`.

Loaded only where `options.parse` is not certain: help, a word it does not know, an error.
"""

from __future__ import annotations

from functools import partial
from typing import Final, cast

import click

from brokerrun import __version__
from brokerrun.cli.options import (
    FIELDS,
    GLOBAL,
    VERBS,
    Line,
    Option,
    Values,
    Verb,
    arrange,
    arrange_global,
    line_of,
)
from brokerrun.errors import UsageError

_WIDTH: Final = 100


def parse_fully(words: list[str]) -> Line | str:
    """Read a command line, or return the text (help, version) that it asks for.

    Raises:
        UsageError: No command line of ours; the text says what may have been meant.
    """
    try:
        with _group().make_context("broker", list(words), max_content_width=_WIDTH) as context:
            line = context.command.invoke(context)
    except _Asked as asked:
        return asked.text
    except click.UsageError as error:
        raise UsageError(_sentence(error)) from None
    return cast(Line, line)


class _Asked(Exception):
    """Help or the version was asked for."""

    def __init__(self, text: str):
        super().__init__(text)
        self.text = text


class _Group(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange_global(args))


class _Command(click.Command):
    """One verb. Help ends with an example and the exit statuses."""

    def __init__(self, verb: Verb):
        words = [_argument(word) for word in verb.words]
        super().__init__(
            verb.name,
            params=[*words, *map(_option, verb.options), _help("--help", short=not verb.literal)],
            callback=partial(_line, verb),
            help=verb.help,
            epilog=f"\b\nExample: {verb.example}\nExit status: {verb.exits}",
            add_help_option=False,
        )
        self.verb = verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange(self.verb, args))


def _group() -> click.Group:
    version = click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=partial(_answer, text=f"broker {__version__}\n"),
        help="Show the version and exit.",
    )
    return _Group(
        "broker",
        commands=[_Command(verb) for verb in VERBS.values()],
        params=[*map(_option, GLOBAL), version, _help("--help", short=True)],
        invoke_without_command=True,
        no_args_is_help=False,
        callback=_no_command,
        help="Queues in one SQLite file.",
        epilog="Exit status: 0 done, 1 error, 2 empty or no match.",
        add_help_option=False,
    )


@click.pass_context
def _no_command(context: click.Context, /, **values: object) -> None:
    if context.invoked_subcommand is None:
        raise _Asked(context.get_help() + "\n")


def _line(verb: Verb, **given: str | bool | None) -> Line:
    parent = click.get_current_context().parent
    merged = {**(parent.params if parent else {}), **given}
    values: Values = {name: value for name, value in merged.items() if value is not None}
    return line_of(verb, values)


def _argument(word: str) -> click.Argument:
    name = word.strip("[]")
    return click.Argument([FIELDS[name]], metavar=word, required=name == word)


def _option(option: Option) -> click.Option:
    names = [*option.names, option.field]
    if option.metavar is None:
        return click.Option(names, is_flag=True, help=option.help)
    return click.Option(names, metavar=option.metavar, help=option.help, callback=_value)


def _help(name: str, *, short: bool) -> click.Option:
    return click.Option(
        ["-h", name] if short else [name],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_answer,
        help="Show this message and exit.",
    )


def _answer(
    context: click.Context, _parameter: click.Parameter, asked: bool, text: str | None = None
) -> None:
    if asked:
        raise _Asked(context.get_help() + "\n" if text is None else text)


def _value(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and value.startswith("-"):
        raise click.UsageError(f"option {parameter.opts[0]} needs a value, got {value!r}")
    return value


def _sentence(error: click.UsageError) -> str:
    """Word click's error as ours: one sentence, what was found and what may be meant."""
    if isinstance(error, click.NoSuchOption):
        text = f"no such option {error.option_name!r}"
        command = error.ctx.command if error.ctx else None
        if error.possibilities:
            text += f"; did you mean {error.possibilities[0]!r}?"
        if isinstance(command, _Command) and command.verb.literal:
            text += " (use -- before a message that begins with '--')"
        return text
    text = error.format_message().removesuffix(".")
    return text[:1].lower() + text[1:]
