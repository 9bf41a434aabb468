"""`xdpcap filter`: the packets of a capture file that match an expression."""

from __future__ import annotations

import os

import click

from xdpcap.cli.filtering import given_expression
from xdpcap.cli.options import CONTEXT_SETTINGS, FLAG, SectionedCommand, section, takes
from xdpcap.cli.streams import complain
from xdpcap.errors import UsageError
from xdpcap.options.units import format_grouped

EXAMPLES = """\b
Examples:
  xdpcap filter all.pcapng web.pcapng tcp port 443
  xdpcap filter all.pcap.zst dns.pcap 'udp port 53'
  xdpcap filter - - vlan 5 < all.pcapng | tshark -r -

`docs/filter.md` tells what an expression can say, and what is kept.
"""

STDOUT = "-"


@click.command(
    "filter",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Copy the packets of a capture file that match an expression.",
    epilog=EXAMPLES,
)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.argument("expression", nargs=-1, metavar="[EXPRESSION]...")
@section(
    None,
    "Options",
    ("filter", ("-f", "--filter"), "The expression, if not as the last arguments.",
        takes(str, "EXPR")),
    ("filter_file", ("-F", "--filter-file"), "Read the expression from a file.",
        takes(str, "FILE")),
    ("quiet", ("-q", "--quiet"), "Say nothing but errors.", FLAG),
)  # fmt: skip
def filter_command(
    source: str,
    target: str,
    *,
    expression: tuple[str, ...],
    filter: str | None,
    filter_file: str | None,
    quiet: bool,
) -> None:
    """Copy the packets of IN that match an expression (pcap-filter(7)) to OUT.

    IN is pcap or pcapng, compressed or not; OUT becomes what its name ends in. -
    stands for standard input and output.
    """
    text = given_expression(expression, filter, filter_file)
    if text is None:
        raise UsageError("no filter; add an expression, as in `xdpcap filter IN OUT tcp port 443`")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UsageError(f"{target}: that is the capture itself; choose another name")
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.inspect.filter_file import filter_file as run

    found = run(source, target, text)
    if found.damage is not None:
        complain(found.damage)
    if not quiet:
        click.echo(
            f"{format_grouped(found.kept)} of {format_grouped(found.packets)} packets match",
            err=True,
        )
    raise SystemExit(1 if found.damage else 0)
