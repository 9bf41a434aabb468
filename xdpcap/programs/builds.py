"""The builds of the recording program (setup.py, VARIANTS), and which a kernel can load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from xdpcap.host import kernel

# Compiled programs; `include` has the headers for users' own programs.
OBJECTS = Path(str(files("xdpcap"))) / "programs" / "objects"


@dataclass(frozen=True)
class Variant:
    """One build of the recording program.

    `clock` stamps its packets: "tai" and "monotonic" are read by the program, "realtime" by
    the worker, as the program writes no metadata.  `foreign`: the user's own program; then
    `object_name` is the path of its object and `program` its name.  `perf`: it copies packets
    into perf rings.
    """

    object_name: str
    clock: str
    multi_buffer: bool
    program: str = "xdpcap_record"
    foreign: bool = False
    perf: bool = False
    # Bound to its device, so that it can query the driver for each packet's metadata.
    queries_driver: bool = False

    @property
    def path(self) -> str:
        """The object file: in the installed package, or the user's."""
        if self.foreign:
            return self.object_name
        return str(OBJECTS / self.object_name)

    @property
    def writes_time(self) -> bool:
        """Whether the program stamps the packets itself."""
        return self.clock != "realtime"

    @property
    def stamped_by(self) -> str:
        """Who stamps the packets: "program", "software" (the worker), or "custom" (a user's
        program where it writes our metadata, else the worker)."""
        return "custom" if self.foreign else "program" if self.writes_time else "software"

    @property
    def clock_label(self) -> str:
        """The clock in a file's header; "custom": the worker stamps some of the packets."""
        return f"custom {self.clock}" if self.foreign else self.clock

    @property
    def can_hash(self) -> bool:
        """Whether the program can hash packets and has metadata to store the hash in."""
        return self.writes_time and kernel.has_global_data()

    @property
    def program_clock(self) -> str:
        """The clock for the program's settings."""
        return self.clock if self.writes_time else "monotonic"


def variants() -> Iterator[Variant]:
    """Builds that this kernel can load, best first."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    if kernel.has_multi_buffer():
        yield Variant("record_frags.bpf.o", clock, True)
    if kernel.has_redirect_flags():
        yield Variant("record_plain.bpf.o", clock, False)
    else:
        yield Variant("record_legacy.bpf.o", "monotonic", False)


def mirror_variants() -> Iterator[Variant]:
    """Builds that copy packets into rings, best first; the last one uses perf rings."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    if kernel.has_load_bytes():
        yield Variant("record_mirror.bpf.o", clock, True)
    yield Variant("record_mirror_perf.bpf.o", clock, False, perf=True)


def nic_variant() -> Variant:
    """The build that runs on the NIC (offload); its copies are stamped on the host."""
    return Variant("nic.bpf.o", "monotonic", False, program="xdpcap_look", perf=True)


def observer_variant() -> Variant:
    """The build that traces another XDP program (fentry/fexit)."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    return Variant("observe.bpf.o", clock, kernel.has_load_bytes(), perf=True)


def driver_metadata_variants(*, mirror: bool = False) -> Iterator[Variant]:
    """The build that queries its driver, where the kernel supports it; `mirror`: and copies.

    Device-bound programs came with 6.3, but only since 6.6 does the kernel report which
    metadata a driver has: before that none is queried.
    """
    if kernel.has_multi_buffer():
        name = "record_mirror_metadata.bpf.o" if mirror else "record_metadata.bpf.o"
        yield Variant(name, "tai", True, queries_driver=True)


def member_variants(multi_buffer: bool, *, mirror: bool = False) -> Iterator[Variant]:
    """Builds for a libxdp dispatcher, best first; `mirror`: those that copy packets.

    `multi_buffer`: the dispatcher supports multi-buffer packets.  A member without support
    would disable it for all members; a dispatcher without it needs members without it.  The
    last build works where members may not change packets.
    """
    sg = multi_buffer and kernel.has_multi_buffer()
    if mirror:
        # They write no metadata before a packet, and may be declared single-buffer.
        fit = (v for v in mirror_variants() if v.multi_buffer or not sg)
        yield from (replace(v, multi_buffer=sg) for v in fit)
        return
    yield from (v for v in variants() if v.multi_buffer == sg)
    yield bare_variant(sg)


def bare_variant(multi_buffer: bool) -> Variant:
    """The build that writes no metadata; declared multi-buffer or not when it joins."""
    return Variant("record_bare.bpf.o", "realtime", multi_buffer)
