"""What a recording session is asked to do, checked once, before anything is opened.

`RecordOptions` is plain data: it holds no handle and looks nothing up.
`RecordOptions.validate` is the one place that knows which values and which
combinations make sense. It looks at the values alone (and at the CPUs that this
process may run on): whether an interface, a directory or a user exists is
found out by the session when it opens them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from xdpcap.errors import UsageError
from xdpcap.options import checks
from xdpcap.options.checks import ATTACH_MODES, DEFAULT_STATS_INTERVAL_S
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.options.listen_address import ListenAddress
from xdpcap.options.program_argument import ProgramFile
from xdpcap.options.units import KIB, MIB, format_duration, format_size

STDOUT = "-"
FORMATS = ("pcapng", "pcap")
# What can become of packets that the filter does not match.
UNMATCHED = ("pass", "drop")
RSS = ("keep", "symmetric")
HASHES = ("auto", "driver", "program", "off")
# As pcap-tstamp(7) names them.
TIME_STAMP_TYPES = ("auto", "host", "adapter", "adapter_unsynced")

# The largest snapshot length that libpcap's readers accept (MAXIMUM_SNAPLEN).
MAX_SNAPLEN = 262144
# Of rings that packets are copied into: bpf_map_create() takes more, nobody has needed it.
MAX_MIRROR_BYTES = 1024 * MIB
SAMPLES = ("count", "flow")
HOOKS = ("entry", "exit")
MAX_SAMPLE = 2**32 - 1

# What O_DIRECT asks of a buffer's length on every device in use.
BLOCK_ALIGNMENT = 4096
MIN_BLOCK_BYTES = 256 * KIB
# libxdp has a member's priority in a signed number of 32 bits (BTF of its run options).
MAX_PRIORITY = (1 << 31) - 1
# Below this a recorder that merely waits for its turn on a busy machine would let go.
MIN_DEAD_MAN_S = 0.5
# The program counts it in milliseconds, in 32 bits.
MAX_DEAD_MAN_S = 0xFFFFFFFF // 1000
# A single write() or io_uring write moves less than 2 GiB.
MAX_BLOCK_BYTES = 1024 * MIB
# IORING_REGISTER_BUFFERS took at most UIO_MAXIOV buffers before kernel 5.13.
MAX_BLOCK_COUNT = 1024
# Below this, opening and closing files costs more than recording.
MIN_ROTATE_INTERVAL_S = 0.1

# Blocks for a disk and for a memory file system or a pipe; docs/performance.md has the
# measurements.  A write to a disk should last long beside the moment until the next one is
# handed over; one to memory should still find its block in the nearest cache.
DISK_BLOCKS = (4 * MIB, 8)
MEMORY_BLOCKS = (256 * KIB, 2)

DEFAULT_NAME_TEMPLATE = "{interface}-q{queue}-{start}-{sequence:06d}.{ext}"


@dataclass(frozen=True)
class RecordOptions:
    """Everything `xdpcap record` can be told; `docs/record.md` explains each option.

    Sizes are in bytes and per queue, times in seconds. None means no limit, for
    `queues` and `cpus` all of them, for `ring_size` and the write buffer what suits the
    rest. `snaplen` 0 keeps whole packets.
    `post_rotate` is an argument vector, never a shell command. `bpf` has the user's own
    programs, by interface.
    """

    interfaces: tuple[str, ...]
    output: str
    format: str = "pcapng"
    snaplen: int = 0
    mirror: bool = False
    mirror_size_bytes: int = 32 * MIB
    xdp_hook: int | None = None
    xdp_hook_at: str = "exit"
    sample: int = 1
    sample_by: str = "count"
    queues: tuple[int, ...] | None = None
    attach: str = "auto"
    zero_copy: str = "auto"
    cpus: tuple[int, ...] | None = None
    busy_poll: bool = False
    hugepages: bool = False
    umem_size_bytes: int = 64 * MIB
    frame_size: int | None = None
    ring_size: int | None = None
    batch: int = 256
    write_buffer_bytes: int | None = None
    write_buffer_count: int | None = None
    flush_interval_s: float = 1.0
    rotate_size_bytes: int | None = None
    rotate_packets: int | None = None
    rotate_interval_s: float | None = None
    rotate_align: bool = False
    keep_files: int | None = None
    keep_size_bytes: int | None = None
    count: int | None = None
    duration_s: float | None = None
    max_size_bytes: int | None = None
    name_template: str = DEFAULT_NAME_TEMPLATE
    post_rotate: tuple[str, ...] | None = None
    stats_interval_s: float = DEFAULT_STATS_INTERVAL_S
    quiet: bool = False
    json: bool = False
    force: bool = False
    netns: str | None = None
    user: str | None = None
    promiscuous: bool = True
    wait_link: bool = False
    fix_offloads: bool = False
    rss: str = "keep"
    dead_man_s: float | None = None
    bpf: Mapping[str, ProgramFile] = field(default_factory=dict)
    priority: int | None = None
    prometheus: ListenAddress | None = None
    filter: str | None = None
    unmatched: str = "pass"
    hash: str = "auto"
    time_stamp_type: str = "auto"

    @property
    def rotates(self) -> bool:
        """Whether any rule ends a file before the session ends."""
        rules = (self.rotate_size_bytes, self.rotate_packets, self.rotate_interval_s)
        return any(rule is not None for rule in rules)

    def ring_size_for(self, frame_size: int) -> int:
        """Descriptors of the rings: `ring_size`, by default as many as the UMEM has frames.

        A full ring is what rides out a delay of the worker or the disk, and a ring costs
        24 bytes a descriptor beside a frame of 2048.  Never more than there are frames.
        """
        frames = self.umem_size_bytes // frame_size
        most = 1 << max(frames.bit_length() - 1, 0)
        return most if self.ring_size is None else min(self.ring_size, most)

    def blocks(self, *, disk: bool) -> tuple[int, int]:
        """Bytes and number of the blocks that files are written in; `disk`: not to memory."""
        size, count = DISK_BLOCKS if disk else MEMORY_BLOCKS
        return self.write_buffer_bytes or size, self.write_buffer_count or count

    @property
    def copies(self) -> bool:
        """Whether packets are copied into rings and none is taken from the host."""
        return self.mirror or self.xdp_hook is not None

    @property
    def asks_device_time(self) -> bool:
        """Whether the NIC's times are to be had or nothing."""
        return self.time_stamp_type in ("adapter", "adapter_unsynced")

    @property
    def to_stdout(self) -> bool:
        """Whether the packets go to standard output and not into files."""
        return self.output == STDOUT

    def validate(self) -> None:
        """Raise `UsageError` for the first value or combination that can't work.

        The message is one line: the option, the cause, and after a semicolon
        the way out.
        """
        steps = (
            *(_source, _attachment, _mirror, _observer, _time_stamps, _ranges, _memory, _blocks),
            *(_files, _stdout, _reports),
        )
        for problem in chain.from_iterable(step(self) for step in steps):
            raise UsageError(problem)


# Each check below yields the problems it finds, the plainest first; only the first is shown.


def _source(c: RecordOptions) -> Iterator[str]:
    listing = checks.INTERFACE_LISTING
    if not c.interfaces:
        yield f"no interface; name one with -i, {listing}"
    for name in c.interfaces:
        if name == "any":
            yield f"-i any: every queue has its own socket; name each interface, {listing}"
        yield from checks.interface_name("-i", name)
        if c.interfaces.count(name) > 1:
            yield f"-i {name}: named twice; name each interface once"
    yield from checks.queue_list(c.queues, "all")
    yield from checks.namespace(c.netns)
    yield from checks.one_of("--unmatched", c.unmatched, UNMATCHED)
    if c.filter is None and c.unmatched != "pass":
        yield f"--unmatched {c.unmatched}: there is no filter; add an expression"
    if c.user is not None and not c.user:
        yield "--user: no name; name the user to run as after set-up"


def _attachment(c: RecordOptions) -> Iterator[str]:
    yield from checks.modes(c.attach, ATTACH_MODES, c.zero_copy)
    if c.attach == "offload":
        yield (
            "--attach offload: AF_XDP can't be fed from an offloaded program; "
            "use --attach native, or look at packets with `xdpcap dump -H`"
        )
    yield from checks.one_of("--rss", c.rss, RSS)
    yield from _own_program(c)
    yield from checks.cpu_list(c.cpus)


def _mirror(c: RecordOptions) -> Iterator[str]:
    size = c.mirror_size_bytes
    if not checks.is_power_of_two(size) or not checks.PAGESIZE <= size <= MAX_MIRROR_BYTES:
        near = 1 << max(size - 1, checks.PAGESIZE - 1).bit_length()
        yield (
            f"--mirror-size {format_size(size)}: must be a power of two from the page size to "
            f"{format_size(MAX_MIRROR_BYTES)}; use {format_size(min(near, MAX_MIRROR_BYTES))}"
        )
    yield from checks.one_of("--sample-by", c.sample_by, SAMPLES)
    if not c.copies:
        return
    option = "--mirror" if c.mirror else "--xdp-hook"
    if c.zero_copy == "require":
        yield (
            f"{option} with --zero-copy require: what is recorded is a copy, its original "
            "goes its own way; drop one of them"
        )
    if c.busy_poll:
        yield f"{option} with --busy-poll: there is no socket to poll; drop one of them"
    if c.hugepages:
        yield f"{option} with --hugepages: the kernel makes the rings itself; drop one of them"
    if c.unmatched == "drop":
        yield f"{option} with --unmatched drop: every packet is left to the host; drop one of them"


def _observer(c: RecordOptions) -> Iterator[str]:
    yield from checks.one_of("--xdp-hook-at", c.xdp_hook_at, HOOKS)
    if c.xdp_hook is None:
        return
    if c.xdp_hook < 1:
        yield f"--xdp-hook {c.xdp_hook}: no program's id; `bpftool prog show type xdp` lists them"
    why = "another's program is observed, ours does not run"
    asked = {
        "--mirror": c.mirror,
        "--attach": c.attach != "auto",
        "--sample": c.sample != 1,
        "--dead-man": c.dead_man_s is not None,
        "a filter": c.filter is not None,
    }
    for option in (option for option, given in asked.items() if given):
        yield f"--xdp-hook with {option}: {why}; drop one of them"


def _time_stamps(c: RecordOptions) -> Iterator[str]:
    """Only our own native program asks the driver for the packets' times."""
    given = f"-j {c.time_stamp_type}"
    yield from checks.one_of("--time-stamp-type", c.time_stamp_type, TIME_STAMP_TYPES)
    if not c.asks_device_time:
        return
    asked = {
        "--xdp-hook": c.xdp_hook is not None,
        "--bpf": bool(c.bpf),
        f"--attach {c.attach}": c.attach not in ("auto", "native"),
    }
    for option in (option for option, given in asked.items() if given):
        yield f"{given} with {option}: that program asks no driver for times; drop one of them"


def _own_program(c: RecordOptions) -> Iterator[str]:
    """What only our own program does can't be asked of a user's."""
    asked = {
        "--dead-man": c.dead_man_s is not None,
        "--mirror": c.mirror,
        "--xdp-hook": c.xdp_hook is not None,
        "--sample": c.sample > 1,
        "a filter": c.filter is not None,
    }
    for option in (option for option, given in asked.items() if given and c.bpf):
        yield f"{option} with --bpf: xdpcap's own program does that; leave out one of the two"


def _ranges(c: RecordOptions) -> Iterator[str]:
    """Each number on its own: the least it can be, and for some the most."""
    unlimited = "leave it out for no limit"
    yield from checks.ranges(
        ("--snaplen", c.snaplen, 0, MAX_SNAPLEN, "0 keeps whole packets"),
        ("--sample", c.sample, 1, MAX_SAMPLE, "1 records every packet"),
        ("--batch", c.batch, 1, math.inf, "the default is 256"),
        ("--write-buffer-count", c.write_buffer_count, 2, MAX_BLOCK_COUNT, "leave it out"),
        ("--rotate-size", c.rotate_size_bytes, 1, math.inf, unlimited),
        ("--rotate-packets", c.rotate_packets, 1, math.inf, unlimited),
        ("--keep", c.keep_files, 1, math.inf, "leave it out to keep all files"),
        ("--keep-size", c.keep_size_bytes, 1, math.inf, "leave it out to keep all files"),
        ("--count", c.count, 1, math.inf, unlimited),
        ("--max-size", c.max_size_bytes, 1, math.inf, unlimited),
        ("--priority", c.priority, 0, MAX_PRIORITY, "lower ones run first, libxdp's default is 50"),
    )
    yield from checks.time("--flush-interval", c.flush_interval_s)
    yield from checks.time("--rotate-interval", c.rotate_interval_s, MIN_ROTATE_INTERVAL_S)
    yield from checks.time("--duration", c.duration_s)
    yield from checks.time("--dead-man", c.dead_man_s, MIN_DEAD_MAN_S)
    if c.dead_man_s is not None and c.dead_man_s > MAX_DEAD_MAN_S:
        yield (
            f"--dead-man {format_duration(c.dead_man_s)}: must be at most "
            f"{format_duration(MAX_DEAD_MAN_S)}; leave it out for never"
        )


def _memory(c: RecordOptions) -> Iterator[str]:
    frame_size = chosen_frame(c.frame_size)
    yield from checks.frame(frame_size)
    ring_size = c.ring_size_for(frame_size) if c.ring_size is None else c.ring_size
    yield from checks.memory(frame_size, ring_size, c.umem_size_bytes)


def _blocks(c: RecordOptions) -> Iterator[str]:
    size = c.write_buffer_bytes
    if size is None:
        return
    if size % BLOCK_ALIGNMENT or not MIN_BLOCK_BYTES <= size <= MAX_BLOCK_BYTES:
        up = math.ceil(size / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
        near = min(max(up, MIN_BLOCK_BYTES), MAX_BLOCK_BYTES)
        yield (
            f"--write-buffer {size}: must be a multiple of {BLOCK_ALIGNMENT} from "
            f"{format_size(MIN_BLOCK_BYTES)} to {format_size(MAX_BLOCK_BYTES)}; "
            f"use {format_size(near)}"
        )


def _files(c: RecordOptions) -> Iterator[str]:
    yield from checks.one_of("--format", c.format, FORMATS)
    yield from checks.one_of("--hash", c.hash, HASHES)
    if c.format == "pcap" and c.hash in ("driver", "program"):
        yield f"--hash {c.hash}: pcap has no place for a hash; use --format pcapng, or drop --hash"
    if c.bpf and c.hash in ("driver", "program"):
        yield f"--hash {c.hash}: the program is yours and hashes as it likes; drop --hash or --bpf"
    if not c.output:
        yield "no output; name a directory with -o, or `-o -` for standard output"
    if c.rotate_align and c.rotate_interval_s is None:
        yield "--rotate-align: there is no interval to align; add --rotate-interval"
    if not c.to_stdout and not c.rotates:
        for option, value in (("--keep", c.keep_files), ("--keep-size", c.keep_size_bytes)):
            if value is not None:
                yield (
                    f"{option}: old files make room for new ones, and without rotation "
                    "there are none; add --rotate-size, --rotate-interval or --rotate-packets"
                )
    if None not in (c.keep_size_bytes, c.rotate_size_bytes):
        keep, rotate = c.keep_size_bytes or 0, c.rotate_size_bytes or 0
        if keep < rotate:
            yield (
                f"--keep-size {format_size(keep)}: less than one file of --rotate-size "
                f"{format_size(rotate)}; raise --keep-size or lower --rotate-size"
            )
    if c.post_rotate is not None and not (c.post_rotate and c.post_rotate[0]):
        yield "--post-rotate: an empty command; name a program, {} stands for the file's path"
    if not c.name_template:
        yield f"--name: an empty template; the default is {DEFAULT_NAME_TEMPLATE}"


def _stdout(c: RecordOptions) -> Iterator[str]:
    """Standard output is one endless stream: nothing that is done to files can be done to it."""
    if not c.to_stdout:
        return
    asked = {
        "--rotate-size": c.rotate_size_bytes is not None,
        "--rotate-packets": c.rotate_packets is not None,
        "--rotate-interval": c.rotate_interval_s is not None,
        "--keep": c.keep_files is not None,
        "--keep-size": c.keep_size_bytes is not None,
        "--post-rotate": c.post_rotate is not None,
        "--name": c.name_template != DEFAULT_NAME_TEMPLATE,
    }
    for option in (option for option, given in asked.items() if given):
        yield f"-o - with {option}: standard output is one stream; drop {option} or use a directory"
    if c.json:
        yield "-o - with --json: both want standard output; drop --json or use a directory"


def _reports(c: RecordOptions) -> Iterator[str]:
    yield from checks.reports(c.quiet, c.stats_interval_s)
