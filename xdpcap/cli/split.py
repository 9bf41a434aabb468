"""`xdpcap split`: a cache file with the side that each packet of a capture comes from."""

from __future__ import annotations

import os
from typing import Any

import click

from xdpcap.cli.options import (
    CONTEXT_SETTINGS,
    FLAG,
    Quantity,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.cli.streams import complain, emit
from xdpcap.errors import UsageError
from xdpcap.options.addresses import Network, parse_prefix_list
from xdpcap.options.units import format_grouped

EXAMPLES = """\b
Examples:
  xdpcap split web.pcap -o web.split
  xdpcap split web.pcap --prefix 10.0.0.0/8,2001:db8::/32 -o web.split
  xdpcap replay web.pcap -i eth1 -I eth2 --split web.split

`docs/replay.md` describes the cache file.
"""

STDOUT = "-"
TOLD_BY = {
    "handshake": "by the handshake",
    "ports": "by the lower port",
    "hosts": "as others of the two hosts",
    "first": "by who sent first",
}
PREFIXES = Quantity("prefixes", parse_prefix_list)


@click.command(
    "split",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Tell clients' and servers' packets of a capture apart, for replay.",
    epilog=EXAMPLES,
)
@click.argument("files", nargs=-1, metavar="FILE...")
@section(
    None,
    "Options",
    ("output", ("-o", "--output"), "Cache file to write, or - for standard output.", {
        "default": "", "metavar": "FILE"}),
    (
        "prefixes",
        ("--prefix",),
        "The servers' prefixes, by commas; may be given more than once.",
        {**takes(PREFIXES, "CIDR"), "multiple": True, "default": ()},
    ),
    ("quiet", ("-q", "--quiet"), "Say nothing but errors.", FLAG),
)  # fmt: skip
def split_command(
    files: tuple[str, ...], output: str, prefixes: tuple[tuple[Network, ...], ...], quiet: bool
) -> None:
    """Write down which packets of capture files clients sent, and which servers.

    `xdpcap replay -i A -I B --split CACHE` then sends clients' packets out of A
    and servers' out of B. Without --prefix each conversation is looked at: the
    client is who sent the first SYN, without one the end with the higher port,
    without ports who sent first.
    """
    _check(files, output)
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.replay.split import cache_text, split_files, write_cache

    found = split_files(files, [network for given in prefixes for network in given])
    if output == STDOUT:
        emit(cache_text(found))
    else:
        write_cache(output, found)
    for line in found.damage:
        complain(line)
    if not quiet:
        for line in _summary(found):
            click.echo(line, err=True)
    raise SystemExit(1 if found.damage else 0)


def _check(files: tuple[str, ...], output: str) -> None:
    """What can be refused before anything is read."""
    if not files:
        raise UsageError("no file; name capture files")
    if "-" in files:
        raise UsageError(
            "standard input: a cache belongs to a file, by its content; name a capture file"
        )
    if not output:
        raise UsageError("no output; name a cache file with -o, or `-o -` for standard output")
    for name in files:
        if os.path.exists(output) and os.path.exists(name) and os.path.samefile(name, output):
            raise UsageError(f"-o {output}: that is the capture itself; choose another name")


def _summary(found: Any) -> list[str]:
    lines = [
        f"{file.name}: {format_grouped(file.packets)} packets, "
        f"{format_grouped(file.client_packets)} of clients, "
        f"{format_grouped(file.server_packets)} of servers"
        for file in found.files
    ]
    told = {TOLD_BY[how]: count for how, count in found.decided_by.items() if count}
    if told:
        total = sum(told.values())
        parts = ", ".join(f"{format_grouped(count)} {by}" for by, count in told.items())
        lines.append(
            f"{format_grouped(total)} conversation{'' if total == 1 else 's'} told apart: {parts}"
        )
    return lines
