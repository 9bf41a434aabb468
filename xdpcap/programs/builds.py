"""The builds of the recording program (setup.py, VARIANTS), and which a kernel can load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from xdpcap.host import kernel

# Compiled programs, and in `include` what users' own programs are compiled with.
OBJECTS = Path(str(files("xdpcap"))) / "programs" / "objects"


@dataclass(frozen=True)
class Variant:
    """One build of the recording program.

    `clock` is what its packets are stamped with: the program reads "tai" or "monotonic",
    and leaves "realtime" to the worker, as it writes no metadata.  `foreign`: a program of
    the user's own, `object_name` is the path of its object then, and `program` its name.
    `perf`: it copies packets into perf rings.
    """

    object_name: str
    clock: str
    multi_buffer: bool
    program: str = "xdpcap_record"
    foreign: bool = False
    perf: bool = False
    # Bound to its device: the driver can be asked what it knows of each packet.
    asks_driver: bool = False

    @property
    def path(self) -> str:
        """Where the object lies: in the installed package, or where the user has it."""
        if self.foreign:
            return self.object_name
        return str(OBJECTS / self.object_name)

    @property
    def stamps(self) -> bool:
        """Whether the program stamps the packets itself."""
        return self.clock != "realtime"

    @property
    def stamped_by(self) -> str:
        """Who takes the packets' times: "program", "software" (the worker), or "custom": a
        user's program where it writes our metadata, else the worker."""
        return "custom" if self.foreign else "program" if self.stamps else "software"

    @property
    def clock_told(self) -> str:
        """The clock for a file's header: a user's program may leave some packets to the worker."""
        return f"custom {self.clock}" if self.foreign else self.clock

    @property
    def hashes(self) -> bool:
        """Whether the program can hash packets and has a place for it."""
        return self.stamps and kernel.has_global_data()

    @property
    def program_clock(self) -> str:
        """The clock to load the program with."""
        return self.clock if self.stamps else "monotonic"


def variants() -> Iterator[Variant]:
    """The builds that this kernel can load, best first."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    if kernel.has_multi_buffer():
        yield Variant("record_frags.bpf.o", clock, True)
    if kernel.has_redirect_flags():
        yield Variant("record_plain.bpf.o", clock, False)
    else:
        yield Variant("record_legacy.bpf.o", "monotonic", False)


def mirror_variants() -> Iterator[Variant]:
    """The builds that copy packets into rings, best first; the last for perf rings."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    if kernel.has_load_bytes():
        yield Variant("record_mirror.bpf.o", clock, True)
    yield Variant("record_mirror_perf.bpf.o", clock, False, perf=True)


def nic() -> Variant:
    """The build for a NIC that runs it itself; its copies are stamped when they reach the host."""
    return Variant("nic.bpf.o", "monotonic", False, program="xdpcap_look", perf=True)


def observer() -> Variant:
    """The build that looks over another program's shoulder."""
    clock = "tai" if kernel.has_tai() else "monotonic"
    return Variant("observe.bpf.o", clock, kernel.has_load_bytes(), perf=True)


def asking_variants(*, mirror: bool = False) -> Iterator[Variant]:
    """The build that asks its driver, where the kernel has such programs; `mirror`: and copies.

    They came with 6.3, what a driver can be asked is told from 6.6: before, nothing is asked.
    """
    if kernel.has_multi_buffer():
        name = "record_mirror_metadata.bpf.o" if mirror else "record_metadata.bpf.o"
        yield Variant(name, "tai", True, asks_driver=True)


def member_variants(multi_buffer: bool, *, mirror: bool = False) -> Iterator[Variant]:
    """The builds for a libxdp dispatcher, best first; `mirror`: those that copy packets.

    `multi_buffer` tells whether it takes packets of several buffers now.  A member that
    does not would take that from all the others; where it does not itself, neither
    should we.  The last build goes where a member may not change packets.
    """
    sg = multi_buffer and kernel.has_multi_buffer()
    if mirror:
        # They write nothing before a packet, and may be declared fit for one buffer only.
        fit = (v for v in mirror_variants() if v.multi_buffer or not sg)
        yield from (replace(v, multi_buffer=sg) for v in fit)
        return
    yield from (v for v in variants() if v.multi_buffer == sg)
    yield bare(sg)


def bare(multi_buffer: bool) -> Variant:
    """The build that writes no metadata; declared fit for several buffers or not when it joins."""
    return Variant("record_bare.bpf.o", "realtime", multi_buffer)
