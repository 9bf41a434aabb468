"""What the subcommands share: option types, grouped help, usage errors as one line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click

from xdpcap.options import units
from xdpcap.options.listen_address import parse_listen
from xdpcap.options.program_argument import parse_program

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
Function = TypeVar("Function", bound=Callable[..., Any])
# The field that an option fills, its names, its help, and click's settings.
Row = tuple[str, tuple[str, ...], str, dict[str, Any]]

FLAG: dict[str, Any] = {"is_flag": True}
# The longest "-p, --no-promiscuous-mode" or "--write-buffer-count NUMBER" of the help.
NAMES_WIDTH = 27


class Quantity(click.ParamType[Any]):
    """An option's value read by one of the parsers of `xdpcap.options.units`.

    `name` is what the help shows in the value's place, `spell` writes a default.
    """

    def __init__(
        self, name: str, parse: Callable[[str], Any], spell: Callable[[Any], str] = str
    ) -> None:
        self.name = name
        self.spell = spell
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value; a default, which is no text, passes as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _split_command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        # shlex says "No closing quotation" and the like, without the text it is about.
        raise ValueError(f"{text!r}: {str(error).lower()}") from None


SIZE = Quantity("size", units.parse_size, units.format_size)
# A size that is better known as the plain number than as 2KiB.
BYTES = Quantity("bytes", units.parse_size)
COUNT = Quantity("count", units.parse_count)
DURATION = Quantity("time", units.parse_duration, units.format_duration)
NUMBERS = Quantity("list", units.parse_number_list, units.format_number_list)
PROGRAM = Quantity("program", parse_program)
LISTEN = Quantity("[addr:]port", parse_listen)
COMMAND = Quantity("command", _split_command)


class SectionOption(click.Option):
    """An option that the help shows under the heading `section`, with its default.

    `aliases` are more names, which the help of the single option leaves out.
    """

    def __init__(
        self, *args: Any, section: str, aliases: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        kwargs["show_default"] = True
        names, *rest = args
        super().__init__([*names, *aliases], *rest, **kwargs)
        self.section = section
        self.aliases = aliases

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Names and text as the help shows them."""
        every = self.opts
        self.opts = [name for name in every if name not in self.aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """What stands in brackets; a default is spelled as one would type it."""
        extra = super().get_help_extra(ctx)
        if self.is_flag or self.count or self.default in ("", ()):
            extra.pop("default", None)
        elif "default" in extra and isinstance(self.type, Quantity):
            extra["default"] = self.type.spell(self.default)
        return extra


def section(defaults: type | None, title: str, *rows: Row) -> Callable[[Function], Function]:
    """Options under one heading of the help; a default is the one that `defaults` has."""

    def decorate(function: Function) -> Function:
        # Decorators apply from the last to the first, and click shows the first on top.
        for field, names, text, settings in reversed(rows):
            wanted = {"default": getattr(defaults, field, None), **settings}
            function = click.option(
                field, *names, cls=SectionOption, section=title, help=text, **wanted
            )(function)
        return function

    return decorate


def takes(kind: Any, metavar: str | None = None, *aliases: str) -> dict[str, Any]:
    """Settings of an option with a value; `aliases` are names that the help leaves out."""
    return {"type": kind, "metavar": metavar, "aliases": aliases}


class SectionedCommand(click.Command):
    """A command whose help lists the options under their headings, in order of definition."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and let an error that click raised without its context have it."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one definition list a section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                section = param.section if isinstance(param, SectionOption) else "Other"
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                # Padded, all sections have their texts in one column.
                padded = [(names.ljust(NAMES_WIDTH), text) for names, text in records]
                formatter.write_dl(padded, col_max=NAMES_WIDTH)


def usage_line(error: click.UsageError) -> str:
    """A click error as the rest of the program words its errors: the cause; the way out."""
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"no such option {error.option_name}; there is {', '.join(error.possibilities)}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        named = error.param.opts
        option = next((name for name in named if name.startswith("--")), named[0])
        cause = f"{option}: {error.message}"
    else:
        cause = error.format_message()
        cause = cause[:1].lower() + cause[1:]
    command = error.ctx.command_path if error.ctx else "xdpcap"
    return f"{cause.rstrip('.')}; try '{command} --help'"
