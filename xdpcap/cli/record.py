"""`xdpcap record`: every option of a recording, into one `RecordOptions`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from xdpcap.cli.filtering import given_expression
from xdpcap.cli.options import (
    BYTES,
    COMMAND,
    CONTEXT_SETTINGS,
    COUNT,
    DURATION,
    FLAG,
    LISTEN,
    NUMBERS,
    PROGRAM,
    SIZE,
    SectionedCommand,
    section,
    takes,
)
from xdpcap.errors import UsageError
from xdpcap.options.checks import ATTACH_MODES, ZERO_COPY_MODES
from xdpcap.options.program_argument import sources
from xdpcap.options.record import (
    FORMATS,
    HASHES,
    HOOKS,
    RSS,
    SAMPLES,
    TIME_STAMP_TYPES,
    UNMATCHED,
    RecordOptions,
)

EXAMPLES = """\b
Sizes take K, M, G or KiB, MiB, GiB (powers of 1024) and kB, MB, GB (powers of
1000); times take ms, s, m, h, d, as in 1h30m; counts take k, M, G (decimal).

\b
Examples:
  xdpcap record -i eth1 -o captures/
  xdpcap record -i eth1 -o captures/ --rotate-size 1G --keep 20
  xdpcap record -i eth1 -o captures/ --rotate-interval 1h --rotate-align
  xdpcap record -i eth1 --queues 0-3 --cpus 4-7 --hugepages -o captures/
  xdpcap record -i eth1 -o captures/ 'tcp port 443 and host 10.0.0.1'
  xdpcap record -i eth1 -c 1000 -o - | tcpdump -r - -n

`docs/record.md` explains every option.
"""


_section = partial(section, RecordOptions)


@click.command(
    "record",
    cls=SectionedCommand,
    context_settings=CONTEXT_SETTINGS,
    short_help="Record an interface into capture files.",
    epilog=EXAMPLES,
)
@_section(
    "What to record",
    (
        "interfaces",
        ("-i", "--interface"),
        "Interface to record; may be given more than once. xdp:FILE:PROGRAM:NAME is one with a "
        "program of its own.",
        {"multiple": True, "default": (), "metavar": "NAME"},
    ),
    (
        "queues",
        ("--queues",),
        "Receive queues, such as 0,2-3; all without it. The others' packets stay with the kernel.",
        takes(NUMBERS),
    ),
    (
        "promiscuous",
        ("-p", "--no-promiscuous-mode"),
        "Do not put the interface into promiscuous mode.",
        {"is_flag": True, "flag_value": False, "default": True},
    ),
    (
        "mirror",
        ("--mirror",),
        "Copy the packets and leave them to the host, instead of taking them from it.",
        FLAG,
    ),
    (
        "xdp_hook",
        ("--xdp-hook",),
        "Copy what the XDP program with this id gets or lets go; it stays as it is.",
        takes(int, "PROG_ID"),
    ),
    (
        "xdp_hook_at",
        ("--xdp-hook-at",),
        "Where: entry, before that program, or exit, after it and with its verdict.",
        takes(click.Choice(HOOKS), "MODE"),
    ),
    ("sample", ("--sample",), "Record one packet in so many.", takes(COUNT, "N")),
    (
        "sample_by",
        ("--sample-by",),
        "What one in N is of: count, every N-th packet; flow, all packets of one flow in N.",
        takes(click.Choice(SAMPLES), "MODE"),
    ),
    (
        "filter",
        ("-f", "--filter"),
        "Record only what matches, an expression as tcpdump's; also as the last arguments.",
        takes(str, "EXPR"),
    ),
    ("filter_file", ("-F", "--filter-file"), "Read the filter from a file.", takes(str, "FILE")),
    (
        "unmatched",
        ("--unmatched",),
        "What becomes of other packets: pass (to the kernel stack, untouched) or drop.",
        takes(click.Choice(UNMATCHED), "WHAT"),
    ),
    ("snaplen", ("-s", "--snaplen"), "Bytes kept of each packet; 0 keeps all.", takes(BYTES)),
    ("netns", ("--netns",), "Network namespace the interface is in.", takes(str, "NAME")),
    (
        "wait_link",
        ("--wait-link",),
        "When an interface goes away, wait until it is back and go on.",
        FLAG,
    ),
)
@_section(
    "Files",
    (
        "output",
        ("-o", "-w", "--output"),
        "Directory for the files, or - for standard output.",
        {"default": "", "metavar": "DIR"},
    ),
    ("format", ("--format",), "pcapng or pcap.", takes(click.Choice(FORMATS), "FORMAT")),
    (
        "name_template",
        ("--name",),
        "File names: text, strftime codes (UTC), {interface} {queue} {start} {sequence} {ext} "
        "{host}.",
        takes(str, "TEMPLATE"),
    ),
    (
        "flush_interval_s",
        ("--flush-interval",),
        "With no packet for this long, what is buffered goes to the file.",
        takes(DURATION),
    ),
    (
        "hash",
        ("--hash",),
        "Each packet's flow hash: the driver's, the program's (both directions have one), auto "
        "or off.",
        takes(click.Choice(HASHES), "WHOSE"),
    ),
    (
        "time_stamp_type",
        ("-j", "--time-stamp-type"),
        "Whose clock: host, adapter (the NIC's, in UTC), adapter_unsynced (as it is), or auto.",
        takes(click.Choice(TIME_STAMP_TYPES), "TYPE"),
    ),
)
@_section(
    "Rotation",
    ("rotate_size_bytes", ("--rotate-size",), "New file when one has this size.", takes(SIZE)),
    (
        "rotate_packets",
        ("--rotate-packets",),
        "New file when one has this many packets.",
        takes(COUNT),
    ),
    (
        "rotate_interval_s",
        ("-G", "--rotate-interval"),
        "New files every so often by the clock, packets or not.",
        takes(DURATION),
    ),
    (
        "rotate_align",
        ("--rotate-align",),
        "Rotate at multiples of the interval since midnight UTC: 1h on the hour.",
        FLAG,
    ),
    ("keep_files", ("--keep",), "Keep this many files, delete the oldest.", takes(COUNT)),
    (
        "keep_size_bytes",
        ("--keep-size",),
        "Keep files of this size together, delete the oldest.",
        takes(SIZE),
    ),
    (
        "post_rotate",
        ("-z", "--post-rotate"),
        "Run this on each complete file, without a shell; {} or the end takes the path.",
        takes(COMMAND),
    ),
)
@_section(
    "When to stop (SIGINT and SIGTERM always do)",
    ("count", ("-c", "--count"), "After this many packets.", takes(COUNT)),
    ("duration_s", ("--duration",), "After this time.", takes(DURATION)),
    ("max_size_bytes", ("--max-size",), "When all files together have this size.", takes(SIZE)),
)
@_section(
    "How packets leave the kernel",
    (
        "attach",
        ("--attach",),
        "Where the XDP program runs: native (in the driver), generic (behind it) or auto.",
        takes(click.Choice(ATTACH_MODES), "MODE"),
    ),
    (
        "zero_copy",
        ("--zero-copy",),
        "The device writes into the capture's memory itself: auto, require or off.",
        takes(click.Choice(ZERO_COPY_MODES), "MODE"),
    ),
    (
        "bpf",
        ("--bpf",),
        "Your own XDP program instead of xdpcap's (docs/custom-programs.md).",
        takes(PROGRAM, "FILE[:PROGRAM]"),
    ),
    (
        "priority",
        ("--priority",),
        "Place among the programs of libxdp's dispatcher, lower first; without it 20, or what "
        "a --bpf program says.",
        takes(int, "NUMBER"),
    ),
    ("cpus", ("--cpus",), "CPUs for the workers, one a queue, used in turn.", takes(NUMBERS)),
    ("busy_poll", ("--busy-poll",), "Preferred busy polling: the worker drives the queue.", FLAG),
    (
        "fix_offloads",
        ("--fix-offloads",),
        "Turn off the offloads that spoil a capture, and on again at the end.",
        FLAG,
    ),
    (
        "rss",
        ("--rss",),
        "symmetric: both directions of a connection to one queue, until the end.",
        takes(click.Choice(RSS), "MODE"),
    ),
    (
        "force",
        ("--force",),
        "Record even on the interface of the default route or of this SSH session.",
        FLAG,
    ),
    (
        "dead_man_s",
        ("--dead-man",),
        "When the recorder itself has not run for this long, packets pass to the kernel stack.",
        takes(DURATION),
    ),
    ("user", ("-Z", "--user"), "Run as this user once everything is set up.", takes(str, "NAME")),
)
@_section(
    "Memory of each queue",
    ("umem_size_bytes", ("--umem-size",), "Memory for packets from the kernel.", takes(SIZE)),
    (
        "frame_size",
        ("--frame-size",),
        "A frame of that memory, 2048 or 4096; longer packets take several. Without it 2048, "
        "and 4096 in zero-copy mode where a packet has to fit one.",
        takes(BYTES),
    ),
    (
        "ring_size",
        ("--ring-size",),
        "Descriptors of the receive and of the fill ring, a power of two; without it, one a frame.",
        takes(int, "NUMBER"),
    ),
    (
        "mirror_size_bytes",
        ("--mirror-size",),
        "Memory for copied packets with --mirror, a power of two.",
        takes(SIZE),
    ),
    ("batch", ("--batch",), "Packets taken from the ring at a time.", takes(int, "NUMBER")),
    ("hugepages", ("--hugepages",), "Take the memory from huge pages if there are any.", FLAG),
    (
        "write_buffer_bytes",
        ("--write-buffer",),
        "One block of writing; without it 4MiB, or 256KiB to memory.",
        takes(SIZE),
    ),
    (
        "write_buffer_count",
        ("--write-buffer-count",),
        "Blocks, all but one under way; without it 8, or 2 to memory.",
        takes(int, "NUMBER"),
    ),
)
@_section(
    "Reports",
    (
        "stats_interval_s",
        ("--stats-interval",),
        "Time between statistics on standard error.",
        takes(DURATION),
    ),
    (
        "prometheus",
        ("--prometheus",),
        "Serve the ledger to Prometheus there; a port alone is one of 127.0.0.1.",
        takes(LISTEN),
    ),
    ("quiet", ("-q", "--quiet"), "Only warnings, errors and losses.", FLAG),
    ("json", ("--json",), "Print the final report as a JSON object on standard output.", FLAG),
)
@click.argument("expression", nargs=-1, metavar="[EXPRESSION]...")
def record_command(
    expression: tuple[str, ...], filter: str | None, filter_file: str | None, **values: Any
) -> None:
    """Record every packet that arrives on an interface into capture files.

    With an EXPRESSION (pcap-filter(7)) only what matches it; the XDP program
    decides, and the rest goes on as if nobody recorded.

    Each receive queue has its own worker and its own chain of files. Packets
    that could not be kept are counted at the place where they were lost.
    """
    options = record_options(expression, filter, filter_file, **values)
    _check(options)
    # Imported here: --help and a usage error need neither the compiled modules nor a terminal UI.
    from xdpcap.cli.record_ui import TerminalUi
    from xdpcap.cli.terminal import run_to_exit
    from xdpcap.record.session import record_session

    ui = TerminalUi(options)
    run_to_exit(ui, lambda: record_session(options, ui))


def record_options(
    expression: tuple[str, ...] = (),
    filter: str | None = None,
    filter_file: str | None = None,
    **values: Any,
) -> RecordOptions:
    """What the command line asks for; UsageError for an expression that is given twice."""
    values["interfaces"], values["bpf"] = sources(values["interfaces"], values["bpf"])
    return RecordOptions(filter=given_expression(expression, filter, filter_file), **values)


def _check(options: RecordOptions) -> None:
    """What can be refused before anything is opened, as `UsageError`."""
    options.validate()
    if not options.to_stdout:
        from xdpcap.savefile.names import NameTemplate

        NameTemplate(options.name_template, ext=options.format)
    elif sys.stdout.isatty():
        raise UsageError(
            "-o -: standard output is a terminal, packets would garble it; "
            "pipe it into a program, or name a directory with -o"
        )
