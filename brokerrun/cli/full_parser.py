"""The command line of `broker`, read by click from the tables of verbs.

Loaded only where `small_parser.parse` is not certain: help, a word it does not know, an error.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Final, cast

import click

from brokerrun import __version__
from brokerrun.cli.completion import complete_queue
from brokerrun.cli.grammar import FIELDS, GLOBAL, Line, Option, Values, Verb
from brokerrun.cli.hot_verbs import HOT, JSON
from brokerrun.cli.rare_verbs import ALONE, COMPACT, RARE
from brokerrun.cli.small_parser import arrange, arrange_global, is_option, line_of
from brokerrun.errors import UsageError

VERBS: Final = {**HOT, **RARE}
_WIDTH: Final = 100


def parse_fully(words: list[str]) -> Line | str:
    """Read a command line, or return the text (help, version) that it asks for.

    Raises:
        UsageError: No command line of ours; the text says what may have been meant.
    """
    try:
        root = command_line()
        with root.make_context("broker", list(words), max_content_width=_WIDTH) as context:
            line = root.invoke(context)
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
    """Commands by name; a name that is none is answered with the nearest."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange_global(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as the tables have them, not by the alphabet

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            near = get_close_matches(args[0], self.commands, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; `broker --help` lists them"
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class _Command(click.Command):
    """One verb. Help ends with an example and the exit statuses."""

    def __init__(self, verb: Verb):
        words = [_argument(word) for word in verb.words]
        super().__init__(
            verb.name.rpartition(" ")[2],
            params=[*words, *map(_option, verb.options), _help("--help", short=not verb.literal)],
            callback=partial(_line, verb),
            help=verb.help,
            short_help=verb.help.partition(". ")[0].partition("; ")[0].rstrip("."),
            epilog=f"\b\nExample: {verb.example}\nExit status: {verb.exits}",
            add_help_option=False,
        )
        self.verb = verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arrange(self.verb, args))


def command_line() -> click.Group:
    """Build the whole command line."""
    version = click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=partial(_answer, text=f"broker {__version__}\n"),
        help="Show the version and exit.",
    )
    options = (*GLOBAL, *ALONE, COMPACT, JSON)
    commands: list[click.Command] = [_Command(v) for v in VERBS.values() if " " not in v.name]
    return _Group(
        "broker",
        commands=[*commands, _alias()],
        params=[*map(_option, options), version, _help("--help", short=True)],
        invoke_without_command=True,
        no_args_is_help=False,
        callback=_no_command,
        help="Queues in one SQLite file. Options stand before the command.",
        epilog="Exit status: 0 done, 1 error, 2 empty or no match.",
        add_help_option=False,
    )


def _alias() -> click.Group:
    quiet = next(option for option in GLOBAL if option.field == "quiet")
    return _Group(
        "alias",
        commands=[_Command(verb) for verb in VERBS.values() if verb.name.startswith("alias ")],
        params=[_option(quiet), _help("--help", short=True)],
        help="Let one name stand for another queue: `broker write @ALIAS` writes to it.",
        short_help="Let one name stand for another queue",
        epilog="\b\nExample: broker alias add inbox agent1-to-agent2\nExit status: 0, 1 error.",
        add_help_option=False,
        no_args_is_help=False,
    )


@click.pass_context
def _no_command(context: click.Context, /, **given: str | bool | None) -> Line | None:
    """Read what stands in the place of a command: --status, --vacuum, --cleanup; or show help."""
    alone = [option for option in ALONE if given[option.field]]
    verb = context.invoked_subcommand
    if verb is None and not alone and not given["json"] and not given["compact"]:
        raise _Asked(context.get_help() + "\n")
    if len(alone) + (verb is not None) > 1:
        other = repr(verb) if verb else alone[1].names[0]
        raise click.UsageError(f"{alone[0].names[0]} stands alone, not with {other}")
    if given["compact"] and not given["vacuum"]:
        raise click.UsageError("--compact goes with --vacuum")
    if given["json"] and not alone:
        where = "after the command" if verb else f"with {', '.join(o.names[0] for o in ALONE)}"
        raise click.UsageError(f"--json belongs {where}")
    if verb is not None:
        return None
    flags = [option.field for option in ALONE]
    values: Values = {n: v for n, v in given.items() if v is not None and n not in flags}
    return line_of(alone[0].names[0], values)


def _line(verb: Verb, **given: str | bool | tuple[str, ...] | None) -> Line:
    values: Values = {}
    context = click.get_current_context().parent
    while context is not None:  # what stood before the verb
        before = {name: context.params.get(name) for name in _BEFORE}
        values.update({name: value for name, value in before.items() if value not in (None, False)})
        context = context.parent
    values.update({name: value for name, value in given.items() if value not in (None, False)})
    return line_of(verb.name, values)


_BEFORE: Final = tuple(option.field for option in GLOBAL)


def _argument(word: str) -> click.Argument:
    name = word.strip("[]")
    many = name.endswith("...")
    return click.Argument(
        [FIELDS[name]],
        metavar=word,
        required=name == word,
        nargs=-1 if many else 1,
        shell_complete=complete_queue if FIELDS[name] in _QUEUES else None,
    )


_QUEUES: Final = ("queue", "target", "queues")


def _option(option: Option) -> click.Option:
    names = [*option.names, option.field]
    if option.metavar is None:
        return click.Option(names, is_flag=True, help=option.help)
    complete = complete_queue if option.metavar == "QUEUE" else None
    return click.Option(
        names,
        metavar=option.metavar,
        help=option.help,
        callback=_value,
        shell_complete=complete,
    )


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
    if value is not None and is_option(value):
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
