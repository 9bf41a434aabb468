"""`xdpcap dump`: a line for each packet of a capture."""

from __future__ import annotations

from typing import Any

import click

from xdpcap.cli.options import (
    BYTES,
    CONTEXT_SETTINGS,
    COUNT,
    FLAG,
    NUMBERS,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.cli.streams import complain, emit, remark
from xdpcap.errors import UsageError
from xdpcap.options.dump import TIME_STYLES, DumpOptions
from xdpcap.record.ledger import QueueAccount

EXAMPLES = """\b
Examples:
  xdpcap dump -i web.pcap
  xdpcap dump -i captures/ -ttt tcp port 443
  xdpcap dump -i day.pcapng.zst -c 10 -X 'icmp or arp'
  xdpcap dump -i web.pcap --json udp | jq .layers
  xdpcap dump -i eth1 -c 100 tcp port 443

`docs/dump.md` explains every option, the lines and the JSON.
"""

# The styles that -t, -tt and so on stand for, as in tcpdump.
T_STYLES = ("absolute", "none", "epoch", "delta", "date", "relative")
COUNTED: dict[str, Any] = {"count": True, "default": 0}


@click.command(
    "dump",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Print a line for each packet of a capture or an interface.",
    epilog=EXAMPLES,
)
@click.argument("words", nargs=-1, metavar="[EXPR]")
@section(
    None,
    "What to look at",
    (
        "sources",
        ("-i", "--input"),
        "Interface, which may be given more than once; or capture file, directory of them, "
        "- for standard input.",
        {**takes(str, "NAME", "-r", "--interface"), "default": (), "multiple": True},
    ),
    ("count", ("-c", "--count"), "Stop after so many packets.", takes(COUNT)),
)
@section(
    DumpOptions,
    "On an interface",
    ("snaplen", ("-s", "--snaplen"), "Bytes looked at of each packet; 0 for all.", takes(BYTES)),
    ("queues", ("--queues",), "Receive queues, such as 0,2-3; all without it.", takes(NUMBERS)),
    (
        "promiscuous",
        ("-p", "--no-promiscuous-mode"),
        "Do not put the interface into promiscuous mode.",
        {"is_flag": True, "flag_value": False, "default": True},
    ),
    ("netns", ("--netns",), "Network namespace the interface is in.", takes(str, "NAME")),
    ("generic", ("-S", "--generic"), "Generic mode, for any driver.", FLAG),
    ("offload", ("-H", "--offload"), "The program runs on the NIC.", FLAG),
)
@section(
    None,
    "Lines",
    ("link", ("-e", "--link"), "Interface, queue and link header before each packet.", FLAG),
    ("quiet", ("-q", "--quiet"), "Less of each protocol.", FLAG),
    ("verbose", ("-v", "--verbose"), "More of IP, TCP and MPLS.", FLAG),
    ("x", ("-x",), "Bytes in hex below the line; -xx with the link header.", COUNTED),
    ("X", ("-X",), "The same with ASCII; -XX with the link header.", COUNTED),
    ("json", ("--json",), "One JSON object a line instead.", FLAG),
    ("count_only", ("--print-count",), "Only how many packets there are.", FLAG),
)
@section(
    None,
    "Times",
    ("t", ("-t",), "-t none, -tt epoch, -ttt delta, -tttt date, -ttttt relative.", COUNTED),
    ("time_style", ("--time",), "The same by name: time of day, date and time, seconds since "
     "1970, since the line before, since the first, none.",
     {**takes(click.Choice(TIME_STYLES), "STYLE"), "default": None}),
    ("nanoseconds", ("--nano",), "Nine digits behind the point instead of six.", FLAG),
)  # fmt: skip
def dump_command(words: tuple[str, ...], **values: Any) -> None:
    """Print a line for each packet that arrives on an interface, of a capture file, or of a
    directory's files in order of time.

    EXPR is a filter as tcpdump takes it (pcap-filter(7)). Without -i the first word names
    what to look at. Looking at an interface takes no packet away from the host.
    """
    options = dump_options(words, **values)
    options.validate()
    # Imported here: --help and a usage error do not need the compiled modules.
    from xdpcap.inspect.dump import dump_session

    raise SystemExit(dump_session(options, emit, complain, _sum_up))


def dump_options(
    words: tuple[str, ...], *, x: int, X: int, t: int, time_style: str | None, **values: Any
) -> DumpOptions:
    """What the command line asks for."""
    if not values["sources"] and words:
        values["sources"], words = words[:1], words[1:]
    if x and X:
        raise UsageError("-x and -X: the bytes are printed once; choose one")
    if t and time_style is not None:
        raise UsageError(f"-{'t' * t} and --time: one says how times are printed; choose one")
    if t >= len(T_STYLES):
        raise UsageError(f"-{'t' * t}: no such format of times; the last is -ttttt")
    return DumpOptions(
        expression=" ".join(words),
        hexdump="x" * min(x, 2) or "X" * min(X, 2),
        time_style=time_style or T_STYLES[t],
        **values,
    )


def _sum_up(ledger: QueueAccount) -> None:
    """tcpdump's closing lines, on standard error."""
    # Imported here: rich takes a while, and a file needs none of it.
    from xdpcap.cli.record_closing import closing_lines

    remark("\n".join(closing_lines(ledger.reported())))
