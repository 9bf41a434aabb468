"""`xdpcap replay`: every option of a replay, into one `ReplayOptions`."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import click

from xdpcap.cli.options import (
    BYTES,
    CONTEXT_SETTINGS,
    COUNT,
    DURATION,
    FLAG,
    NUMBERS,
    SIZE,
    Quantity,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.errors import UsageError
from xdpcap.options.addresses import format_mac, parse_mac
from xdpcap.options.checks import ZERO_COPY_MODES
from xdpcap.options.replay import ATTACH_MODES, TIMERS, ReplayOptions
from xdpcap.options.times import parse_instant
from xdpcap.options.units import parse_decimal

EXAMPLES = """\b
Sizes take K, M, G or KiB, MiB, GiB (powers of 1024) and kB, MB, GB (powers of
1000); times take us, ms, s, m, h, d, as in 1h30m; counts and rates take k, M
and G (decimal). These names of tcpreplay work, too: --intf1, --intf2,
--preload-pcap, --multiplier, --topspeed, --enet-dmac, --enet-smac.

\b
Examples:
  xdpcap replay file.pcap -i eth1
  xdpcap replay file.pcap -i eth1 --top-speed --loop 100
  xdpcap replay day.pcapng.zst -i eth1 --speed 60 --gap-limit 1s
  xdpcap replay file.pcap -i eth1 --mbps 500 --verify blue:eth2
  xdpcap replay file.pcap -i eth1 -I eth2 --split 10.0.0.0/8
  tcpdump -r a.pcap -w - tcp | xdpcap replay - -i eth1 --pps 10k

`docs/replay.md` explains every option.
"""

MAC = Quantity("mac", parse_mac, format_mac)
RATE = Quantity("rate", parse_decimal)
MOMENT = Quantity("moment", lambda text: parse_instant(text, time.time_ns()))

_section = partial(section, ReplayOptions)


@click.command(
    "replay",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Send capture files out of an interface.",
    epilog=EXAMPLES,
)
@click.argument("files", nargs=-1, metavar="FILE...")
@_section(
    "Where to",
    (
        "interface",
        ("-i", "--interface"),
        "Interface to send from.",
        {**takes(str, "NAME", "--intf1"), "default": ""},
    ),
    (
        "second_interface",
        ("-I", "--second-interface"),
        "Interface for the servers' side; needs --split.",
        takes(str, "NAME", "--intf2"),
    ),
    (
        "split",
        ("--split",),
        "What tells servers' packets: their prefixes, or a file made by `xdpcap split`.",
        takes(str, "CIDR|FILE"),
    ),
    ("netns", ("--netns",), "Network namespace the interfaces are in.", takes(str, "NAME")),
    (
        "queues",
        ("--queues",),
        "Transmit queues, such as 0,2-3; the first without it. A flow stays on one.",
        takes(NUMBERS),
    ),
)
@_section(
    "Reading",
    (
        "preload",
        ("-K", "--preload/--no-preload"),
        "Read everything into memory first, or while sending; by size without it.",
        {"aliases": ("--preload-pcap",)},
    ),
    (
        "preload_bound_bytes",
        ("--preload-bound",),
        "Files up to this size together are read first.",
        takes(SIZE),
    ),
    ("pad", ("--pad",), "Fill packets up to 60 bytes with zeros.", FLAG),
    (
        "strict",
        ("--strict",),
        "Send nothing if a file is damaged or a packet can't be sent.",
        FLAG,
    ),
)
@_section(
    "Pace (recorded times, unless one of the first four is given)",
    (
        "speed",
        ("-x", "--speed"),
        "So many times as fast as recorded.",
        takes(RATE, "FACTOR", "--multiplier"),
    ),
    ("pps", ("-p", "--pps"), "So many packets a second.", takes(RATE)),
    (
        "mbps",
        ("-M", "--mbps"),
        "So many 10^6 bits a second on the wire: with checksum, preamble and gap, 24 bytes a "
        "packet.",
        takes(RATE),
    ),
    (
        "top_speed",
        ("-t", "--top-speed"),
        "As fast as the link takes it.",
        {**FLAG, "aliases": ("--topspeed",)},
    ),
    ("gap_limit_s", ("--gap-limit",), "No recorded pause longer than this.", takes(DURATION)),
    (
        "start_at_ns",
        ("--start-at",),
        "First packet at 14:30[:00], an ISO 8601 time, +10s or @SECONDS since 1970.",
        takes(MOMENT),
    ),
    (
        "timer",
        ("--timer",),
        "spin: wait awake for the last 2 ms; sleep: less exact, spares the CPU.",
        takes(click.Choice(TIMERS), "TIMER"),
    ),
    (
        "launch_time",
        ("--launch-time",),
        "Let the NIC send each packet at its time; needs Linux 6.15 and a driver that can.",
        FLAG,
    ),
    ("late_s", ("--late",), "Count packets later than this as late.", takes(DURATION)),
)
@_section(
    "How much (SIGINT and SIGTERM always stop)",
    ("loop", ("-l", "--loop"), "So many times over; 0 until stopped.", takes(COUNT)),
    ("limit", ("-L", "--limit"), "Stop after so many packets.", takes(COUNT)),
    ("duration_s", ("--duration",), "Stop after this time.", takes(DURATION)),
)
@_section(
    "Changing packets",
    ("dst_mac", ("--dst-mac",), "Destination MAC address.", takes(MAC, None, "--enet-dmac")),
    ("src_mac", ("--src-mac",), "Source MAC address.", takes(MAC, None, "--enet-smac")),
    (
        "vlan",
        ("--vlan",),
        "add:ID adds a tag, del removes the outer one, ID sets it.",
        takes(str, "EDIT"),
    ),
    (
        "map_ip",
        ("--map-ip",),
        "Move addresses from one prefix to another, checksums kept right; repeatable.",
        {**takes(str, "CIDR:CIDR"), "multiple": True, "default": ()},
    ),
    (
        "seed",
        ("--seed",),
        "Random addresses, the same for the same number.",
        takes(int, "NUMBER"),
    ),
)
@_section(
    "How packets enter the kernel",
    (
        "attach",
        ("--attach",),
        "Program that passes everything, where zero-copy needs one: auto, native, generic or none.",
        takes(click.Choice(ATTACH_MODES), "MODE"),
    ),
    (
        "zero_copy",
        ("--zero-copy",),
        "The device reads the packets from our memory itself: auto, require or off.",
        takes(click.Choice(ZERO_COPY_MODES), "MODE"),
    ),
    ("cpus", ("--cpus",), "CPUs for the senders, one a queue, used in turn.", takes(NUMBERS)),
    (
        "force",
        ("--force",),
        "Send even from the interface of the default route or of this SSH session.",
        FLAG,
    ),
)
@_section(
    "Memory of each queue",
    ("umem_size_bytes", ("--umem-size",), "Memory for packets to the kernel.", takes(SIZE)),
    (
        "frame_size",
        ("--frame-size",),
        "A frame of that memory, 2048 or 4096; longer packets take several.",
        takes(BYTES),
    ),
    (
        "ring_size",
        ("--ring-size",),
        "Descriptors of the transmit and of the completion ring, a power of two.",
        takes(int, "NUMBER"),
    ),
    ("batch", ("--batch",), "Packets handed over at a time, at most.", takes(int, "NUMBER")),
)
@_section(
    "Reports",
    (
        "verify",
        ("--verify",),
        "Record at this far end, and compare what arrived to what was sent.",
        takes(str, "[NETNS:]IFACE"),
    ),
    (
        "stats_interval_s",
        ("--stats-interval",),
        "Time between statistics on standard error.",
        takes(DURATION),
    ),
    ("quiet", ("-q", "--quiet"), "Only warnings, errors and differences.", FLAG),
    ("json", ("--json",), "Print the final report as a JSON object on standard output.", FLAG),
)
def replay_command(**values: Any) -> None:
    """Send what capture files hold out of an interface, byte for byte.

    Each packet leaves at its recorded time, counted from the first one. pcap
    and pcapng files are read in the order given, compressed by gzip or zstd
    or not; - is standard input.
    """
    options = ReplayOptions(**values)
    options.validate()
    if options.from_stdin and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; pipe a capture into it, or name a file")
    # Imported here: --help and a usage error need neither the compiled modules nor a terminal UI.
    from xdpcap.cli.replay_ui import ReplayUi
    from xdpcap.cli.terminal import run_to_exit
    from xdpcap.replay.session import replay_session

    ui = ReplayUi(options)
    run_to_exit(ui, lambda: replay_session(options, ui))
