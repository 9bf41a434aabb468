"""What is known of each packet beside its bytes, and who says it: the driver or the program.

One interface has one kind of hash and one clock, so that what its packets say of themselves can
be compared. What a driver knows is asked by a program that is bound to its device; where a
driver, a kernel or an attach mode has no such thing, the program knows what it can by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from xdpcap import net
from xdpcap.errors import UsageError
from xdpcap.net import Link
from xdpcap.net.driver_features import RX_HASH, RX_TIMESTAMP, RX_VLAN_TAG
from xdpcap.net.rss import CRC32, TOEPLITZ, XOR
from xdpcap.options.record import RecordOptions
from xdpcap.programs.builds import Variant, asking_variants, mirror_variants, variants
from xdpcap.programs.timestamp_source import HOST, DeviceTime, TimeStamps, choose

log = logging.getLogger(__name__)

# The octet that names an algorithm in epb_hash (pcapng draft, section 4.3), by ethtool's number.
ALGORITHMS = {TOEPLITZ: 5, XOR: 1, CRC32: 2}
# The draft has no octet for "not told": this is far from those that it names.
UNTOLD = 0xFF
NAMES = {5: "Toeplitz", 1: "XOR", 2: "CRC32", UNTOLD: "a function of its own"}

CLOCK_COMMENTS = {
    "tai": "time: CLOCK_TAI read in the XDP program, one packet at a time; "
    "its offset to UTC is measured every second",
    "monotonic": "time: CLOCK_MONOTONIC read in the XDP program, one packet at a time; "
    "its offset to UTC is measured every second",
    "custom tai": "time: CLOCK_TAI as the user's XDP program wrote it before the packet, its "
    "offset to UTC measured every second; CLOCK_REALTIME read when the recorder took it, where "
    "it wrote none",
    "custom monotonic": "time: CLOCK_MONOTONIC as the user's XDP program wrote it before the "
    "packet, its offset to UTC measured every second; CLOCK_REALTIME read when the recorder took "
    "it, where it wrote none",
    "realtime": "time: CLOCK_REALTIME read when the recorder took the packet, one packet at a "
    "time; libxdp's dispatcher took no program that writes it before the packet",
}
OWN_HASH = (
    "hash: Toeplitz by the XDP program over source XOR destination address, twice, and source XOR "
    "destination port, twice, so that both directions have one; key "
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
TAGS = "VLAN: tags that the device took off a packet are put back into it"


@dataclass(frozen=True)
class Metadata:
    """What one interface's packets come with.

    `hash_by` is "driver", "program", or "" for no hash; `hash_algorithm` the octet of epb_hash,
    -1 for no hash; `hash_key` the NIC's key. `vlan_tags`: the driver tells of tags that
    the device took off. `time` says whose clock it is.
    """

    hash_by: str = ""
    hash_algorithm: int = -1
    hash_key: bytes = b""
    vlan_tags: bool = False
    time: TimeStamps = HOST

    @property
    def driver_bits(self) -> int:
        """What the driver is asked: XDPCAP_DRIVER_*, which are numbered as netdev's."""
        asked = {
            RX_TIMESTAMP: self.time.by_device,
            RX_HASH: self.hash_by == "driver",
            RX_VLAN_TAG: self.vlan_tags,
        }
        return sum(bit for bit, wanted in asked.items() if wanted)

    def settings(self, link: Link) -> dict[str, Any]:
        """How to make the `Program` that finds it."""
        hashing = {"flow_hash": self.hash_by == "program"}
        if not self.driver_bits:
            return hashing
        return hashing | {"driver_metadata": self.driver_bits, "device": link.index}

    def comments(self, variant: Variant, device: DeviceTime | None = None) -> list[str]:
        """What a file says of its interface: whose clock and whose hash it is."""
        told = [CLOCK_COMMENTS[variant.clock_told]]
        if device is not None:
            told = [device.comment(told[0])]
        if self.hash_by == "program":
            told.append(OWN_HASH)
        elif self.hash_by == "driver":
            key = f"; key {self.hash_key.hex()}" if self.hash_key else ""
            told.append(f"hash: {NAMES[self.hash_algorithm]} by the driver, as for RSS{key}")
        if self.vlan_tags:
            told.append(TAGS)
        return told

    def summary(self) -> str:
        """What packets come with beside their time, one line; "" for nothing."""
        told = []
        if self.hash_by:
            told.append(f"hash by the {self.hash_by} ({NAMES[self.hash_algorithm]})")
        if self.vlan_tags:
            told.append("VLAN tags that the device takes off are put back")
        return "; ".join(told)


def choices(
    options: RecordOptions, link: Link, mode: str, own: Variant | None = None
) -> Iterator[tuple[Variant, Metadata]]:
    """The builds to try in an attach mode with what each finds of a packet, best first.

    `own` is a user's program in place of ours, of whose packets nothing is known but their time.
    Raises UsageError when what was asked of the driver is not to be had there.
    """
    if own is not None:
        time = choose(options, link, "the program is the user's own")
        yield own, replace(by_program(options, own), time=time)
        return
    known = _from_driver(options, link) if mode == "native" else Metadata()
    if known.driver_bits:
        for variant in asking_variants(mirror=options.mirror):
            yield variant, known
    if options.hash == "driver":
        raise UsageError(f"--hash driver: {_why_no_hash(options, link, mode)}; use --hash program")
    time = choose(options, link, _why_not_asked(link, mode))
    for variant in mirror_variants() if options.mirror else variants():
        yield variant, replace(by_program(options, variant), time=time)


def by_program(options: RecordOptions, variant: Variant) -> Metadata:
    """What a program finds that no driver tells anything."""
    if variant.foreign:
        return Metadata()
    if variant.hashes and options.format == "pcapng" and options.hash in ("auto", "program"):
        return Metadata("program", ALGORITHMS[TOEPLITZ])
    return Metadata()


def _from_driver(options: RecordOptions, link: Link) -> Metadata:
    """What the driver would tell; the hash is the program's where that is wished or better.

    By itself the driver's hash is taken only where ethtool names its function: veth's is the
    kernel's own, with a secret that changes with every start.
    """
    offered = net.rx_metadata(link.index)
    tags = bool(offered & RX_VLAN_TAG)
    time = choose(options, link)
    if options.format == "pcapng" and offered & RX_HASH and options.hash in ("auto", "driver"):
        found = net.rss(link.name)
        algorithm = ALGORITHMS.get(found.function, UNTOLD) if found is not None else UNTOLD
        if options.hash == "driver" or algorithm != UNTOLD:
            key = found.key if found is not None else b""
            return Metadata("driver", algorithm, key, tags, time)
    if options.format == "pcapng" and options.hash in ("auto", "program"):
        return Metadata("program", ALGORITHMS[TOEPLITZ], vlan_tags=tags, time=time)
    return Metadata(vlan_tags=tags, time=time)


def _why_no_hash(options: RecordOptions, link: Link, mode: str) -> str:
    if mode == "native" and not net.rx_metadata(link.index) & RX_HASH:
        return f"{link.driver or 'the driver of ' + link.name} tells programs no hash"
    return _why_not_asked(link, mode)


def _why_not_asked(link: Link, mode: str) -> str:
    if mode != "native":
        return f"only a native program can ask a driver, and the mode is {mode}"
    return f"the kernel took no program for {link.name} that asks its driver"
