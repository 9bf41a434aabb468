"""What a replay is asked to do, checked once, before anything is opened.

`ReplayOptions` is plain data, as `RecordOptions` is: `validate` looks at the
values alone. Whether a file or an interface exists is found out by the session.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from xdpcap.errors import UsageError
from xdpcap.options import checks
from xdpcap.options.addresses import Network, parse_prefix_list
from xdpcap.options.rewrite import parse_rules
from xdpcap.options.units import GIB, MIB, UnitError, format_duration, format_scaled

STDIN = "-"
ATTACH_MODES = ("auto", "native", "generic", "none")
TIMERS = ("spin", "sleep")

# Beyond these a packet's due time overflows 63 bits of nanoseconds, or means nothing.
LEAST_PACE, MOST_PACE = 0.001, 1e9

DEFAULT_PRELOAD_BOUND = GIB
DEFAULT_LATE_S = 0.001
DEFAULT_TIMER = "spin"


@dataclass(frozen=True)
class ReplayOptions:
    """Everything `xdpcap replay` can be told; `docs/replay.md` explains each option.

    Sizes are in bytes, times in seconds unless the name says otherwise, `mbps` in
    10^6 bits a second on the wire. None means what the option's absence does.
    `loop` 0 repeats until stopped. `split` is a list of prefixes or the path of a
    cache file, `verify` an interface with or without its namespace.
    """

    files: tuple[str, ...]
    interface: str
    second_interface: str | None = None
    split: str | None = None
    netns: str | None = None
    queues: tuple[int, ...] | None = None
    attach: str = "auto"
    zero_copy: str = "auto"
    preload: bool | None = None
    preload_bound_bytes: int = DEFAULT_PRELOAD_BOUND
    speed: float | None = None
    pps: float | None = None
    mbps: float | None = None
    top_speed: bool = False
    gap_limit_s: float | None = None
    loop: int = 1
    duration_s: float | None = None
    limit: int | None = None
    start_at_ns: int | None = None
    timer: str = DEFAULT_TIMER
    launch_time: bool = False
    late_s: float = DEFAULT_LATE_S
    dst_mac: bytes | None = None
    src_mac: bytes | None = None
    vlan: str | None = None
    map_ip: tuple[str, ...] = ()
    seed: int | None = None
    pad: bool = False
    strict: bool = False
    verify: str | None = None
    cpus: tuple[int, ...] | None = None
    frame_size: int = 2048
    ring_size: int = 2048
    batch: int = 64
    umem_size_bytes: int = 16 * MIB
    force: bool = False
    json: bool = False
    quiet: bool = False
    stats_interval_s: float = checks.DEFAULT_STATS_INTERVAL_S

    @property
    def from_stdin(self) -> bool:
        """Whether packets come from standard input, which can be read only once."""
        return STDIN in self.files

    @property
    def split_prefixes(self) -> tuple[Network, ...] | None:
        """The servers' prefixes, when `split` is a list of them; None for a file's path."""
        if self.split is None:
            return None
        try:
            return parse_prefix_list(self.split)
        except UnitError:
            return None

    @property
    def verify_target(self) -> tuple[str | None, str] | None:
        """(namespace, interface) of the far end; the namespace is None for the replay's own.

        The kernel allows no colon in an interface's name (dev_valid_name in
        net/core/dev.c), so the last one ends the namespace.
        """
        if self.verify is None:
            return None
        netns, _, interface = self.verify.rpartition(":")
        return netns or None, interface

    @property
    def recorded_pace(self) -> bool:
        """Whether packets leave at their recorded times, scaled or not."""
        return not self.top_speed and self.pps is None and self.mbps is None

    @property
    def pace_text(self) -> str:
        """The pace as the verdict shows it."""
        if self.top_speed:
            return "as fast as the link takes it"
        if self.pps is not None:
            return format_scaled(self.pps, "pps")
        if self.mbps is not None:
            return f"{format_scaled(self.mbps * 1e6, 'b/s')} on the wire"
        text = "the recorded times"
        if self.speed is not None and self.speed != 1:
            text += f", {self.speed:g} times as fast"
        if self.gap_limit_s is not None:
            text += f", no pause longer than {format_duration(self.gap_limit_s)}"
        return text

    def validate(self) -> None:
        """Raise `UsageError` for the first value or combination that can't work.

        The message is one line: the option, the cause, and after a semicolon
        the way out.
        """
        steps = (
            *(_source, _sides, _pace, _amount, _ranges, _standard_input, _edits),
            *(_attachment, _memory, _verification, _reports),
        )
        for problem in chain.from_iterable(step(self) for step in steps):
            raise UsageError(problem)


# Each check below yields the problems it finds, the plainest first; only the first is shown.


def _source(c: ReplayOptions) -> Iterator[str]:
    if not c.files:
        yield "no file; name capture files, or - for standard input"
    if "" in c.files:
        yield "a file without a name; name capture files, or - for standard input"
    if c.files.count(STDIN) > 1:
        yield "- is named twice; standard input can be read only once, name it once"
    if not c.interface:
        yield f"no interface; name one with -i, {checks.INTERFACE_LISTING}"
    yield from checks.interface_name("-i", c.interface)
    yield from checks.queue_list(c.queues, "the first")
    yield from checks.namespace(c.netns)


def _sides(c: ReplayOptions) -> Iterator[str]:
    """Two interfaces and what divides the packets between them."""
    if c.second_interface is None:
        if c.split is not None:
            yield "--split: both sides would leave by one interface; add -I, or drop --split"
        return
    yield from checks.interface_name("-I", c.second_interface)
    if c.second_interface == c.interface:
        yield f"-I {c.second_interface}: the same as -i; name two interfaces, or drop -I"
    if not c.split:
        yield (
            "-I: which packets leave there is not said; add --split with the servers' prefixes "
            "or a file made by `xdpcap split`"
        )


def _pace(c: ReplayOptions) -> Iterator[str]:
    asked = {
        "--speed": c.speed is not None,
        "--pps": c.pps is not None,
        "--mbps": c.mbps is not None,
        "--top-speed": c.top_speed,
    }
    given = [option for option, wanted in asked.items() if wanted]
    if len(given) > 1:
        yield f"{given[0]} with {given[1]}: two paces at once; keep one of them"
    for option, value in (("--speed", c.speed), ("--pps", c.pps), ("--mbps", c.mbps)):
        if value is not None and not LEAST_PACE <= value <= MOST_PACE:
            yield (
                f"{option} {value:g}: must be from {LEAST_PACE:g} to {MOST_PACE:.0f}; "
                "for no pace at all use --top-speed"
            )
    if c.gap_limit_s is not None and given not in ([], ["--speed"]):
        yield f"--gap-limit with {given[0]}: it shortens recorded pauses; drop one of them"
    yield from checks.one_of("--timer", c.timer, TIMERS)
    if c.top_speed:
        idle = {
            "--launch-time": c.launch_time,
            "--timer": c.timer != DEFAULT_TIMER,
            "--late": c.late_s != DEFAULT_LATE_S,
        }
        for option in (option for option, given in idle.items() if given):
            yield f"{option} with --top-speed: no packet has a time to leave at; drop one of them"


def _amount(c: ReplayOptions) -> Iterator[str]:
    if c.preload is not None and c.preload_bound_bytes != DEFAULT_PRELOAD_BOUND:
        option = "--preload" if c.preload else "--no-preload"
        yield f"--preload-bound with {option}: nothing is left to decide by size; drop one of them"
    if c.start_at_ns is not None and c.start_at_ns < 0:
        yield "--start-at: before 1970; use a time to come, such as +10s or 14:30"


def _ranges(c: ReplayOptions) -> Iterator[str]:
    """Each number on its own: the least it can be, and for some the most."""
    yield from checks.ranges(
        ("--loop", c.loop, 0, math.inf, "0 repeats until stopped"),
        ("--limit", c.limit, 1, math.inf, "leave it out for no limit"),
        ("--batch", c.batch, 1, math.inf, "the default is 64"),
        ("--preload-bound", c.preload_bound_bytes, 1, math.inf, "the default is 1GiB"),
    )
    yield from checks.time("--gap-limit", c.gap_limit_s)
    yield from checks.time("--duration", c.duration_s)
    yield from checks.time("--late", c.late_s)


def _standard_input(c: ReplayOptions) -> Iterator[str]:
    """Standard input can be read once: what needs it twice needs it in memory."""
    if not c.from_stdin:
        return
    if c.loop != 1 and c.preload is not True:
        yield (
            f"--loop {c.loop} with standard input: it can be read only once; "
            "add --preload to keep it in memory"
        )
    if c.strict and c.preload is not True:
        yield (
            "--strict with standard input: it can't be checked to its end before sending; "
            "add --preload to keep it in memory"
        )
    if c.split is not None and c.split_prefixes is None:
        yield (
            "--split with a cache file and standard input: a cache belongs to a file; "
            "use the servers' prefixes"
        )


def _edits(c: ReplayOptions) -> Iterator[str]:
    try:
        parse_rules(c.dst_mac, c.src_mac, c.vlan, c.map_ip, c.seed)
    except UsageError as error:
        yield str(error)


def _attachment(c: ReplayOptions) -> Iterator[str]:
    yield from checks.modes(c.attach, ATTACH_MODES, c.zero_copy)
    yield from checks.cpu_list(c.cpus)


def _memory(c: ReplayOptions) -> Iterator[str]:
    yield from checks.frame(c.frame_size)
    yield from checks.memory(c.frame_size, c.ring_size, c.umem_size_bytes)


def _verification(c: ReplayOptions) -> Iterator[str]:
    target = c.verify_target
    if target is None:
        return
    netns, interface = target
    yield from checks.interface_name("--verify", interface)
    if netns in (None, c.netns) and interface == c.interface:
        yield (
            f"--verify {c.verify}: what leaves there does not arrive there; name the interface "
            "on the far end, as NETNS:IFACE where it is in another namespace"
        )
    if c.second_interface is not None:
        yield (
            "--verify with -I: one far end sees one of the two sides; "
            "replay with one interface, or drop --verify"
        )


def _reports(c: ReplayOptions) -> Iterator[str]:
    yield from checks.reports(c.quiet, c.stats_interval_s)
