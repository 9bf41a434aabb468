"""Each packet's metadata (time, hash, VLAN tag), and its source: the driver or the program.

All packets of an interface have one kind of hash and one clock, so that they can be compared.
A program that is bound to its device queries the driver; where the driver, the kernel or the
attach mode does not support that, the program computes what it can by itself.
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
from xdpcap.programs.builds import Variant, driver_metadata_variants, mirror_variants, variants
from xdpcap.programs.timestamp_source import HOST, DeviceTime, TimeStamps, choose_time_stamps

log = logging.getLogger(__name__)

# The octet that names an algorithm in epb_hash (pcapng draft, section 4.3), by ethtool's number.
ALGORITHMS = {TOEPLITZ: 5, XOR: 1, CRC32: 2}
# The draft has no octet for "unknown": this one is far from those that it assigns.
UNKNOWN = 0xFF
NAMES = {5: "Toeplitz", 1: "XOR", 2: "CRC32", UNKNOWN: "a function of its own"}

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
    "time; libxdp's dispatcher accepted no program that writes it before the packet",
}
OWN_HASH = (
    "hash: Toeplitz by the XDP program over source XOR destination address, twice, and source XOR "
    "destination port, twice, so that both directions have the same; key "
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
TAGS = "VLAN: tags that the device took off a packet are put back into it"


@dataclass(frozen=True)
class Metadata:
    """The metadata of one interface's packets.

    `hash_by` is "driver", "program", or "" for no hash; `hash_algorithm` the octet of epb_hash,
    -1 for no hash; `hash_key` the NIC's key. `vlan_tags`: the driver reports tags that the
    device removed. `time` is the source of the time stamps.
    """

    hash_by: str = ""
    hash_algorithm: int = -1
    hash_key: bytes = b""
    vlan_tags: bool = False
    time: TimeStamps = HOST

    @property
    def driver_bits(self) -> int:
        """The driver's metadata to query, as XDPCAP_DRIVER_* bits (netdev's numbers)."""
        enabled = {
            RX_TIMESTAMP: self.time.by_device,
            RX_HASH: self.hash_by == "driver",
            RX_VLAN_TAG: self.vlan_tags,
        }
        return sum(bit for bit, on in enabled.items() if on)

    def settings(self, link: Link) -> dict[str, Any]:
        """The settings of the `Program` that provides this metadata."""
        settings: dict[str, Any] = {"flow_hash": self.hash_by == "program"}
        if self.driver_bits:
            settings |= {"driver_metadata": self.driver_bits, "device": link.index}
        return settings

    def comments(self, variant: Variant, device: DeviceTime | None = None) -> list[str]:
        """The comments on the interface in a pcapng file: clock, hash, VLAN tags."""
        comments = [CLOCK_COMMENTS[variant.clock_label]]
        if device is not None:
            comments = [device.comment(comments[0])]
        if self.hash_by == "program":
            comments.append(OWN_HASH)
        elif self.hash_by == "driver":
            key = f"; key {self.hash_key.hex()}" if self.hash_key else ""
            comments.append(f"hash: {NAMES[self.hash_algorithm]} by the driver, as for RSS{key}")
        if self.vlan_tags:
            comments.append(TAGS)
        return comments

    def summary(self) -> str:
        """One line for the start-up report: the metadata beside the time; "" for none."""
        parts = []
        if self.hash_by:
            parts.append(f"hash by the {self.hash_by} ({NAMES[self.hash_algorithm]})")
        if self.vlan_tags:
            parts.append("VLAN tags that the device takes off are put back")
        return "; ".join(parts)


def candidates(
    options: RecordOptions, link: Link, mode: str, user_program: Variant | None = None
) -> Iterator[tuple[Variant, Metadata]]:
    """The builds to try in an attach mode, and the metadata that each provides, best first.

    `user_program` replaces our program; its packets have no metadata but their time.  Raises
    UsageError when metadata that the options require of the driver is not available.
    """
    if user_program is not None:
        time = choose_time_stamps(options, link, "the program is the user's own")
        yield user_program, replace(by_program(options, user_program), time=time)
        return
    from_driver = _from_driver(options, link) if mode == "native" else Metadata()
    if from_driver.driver_bits:
        for variant in driver_metadata_variants(mirror=options.mirror):
            yield variant, from_driver
    if options.hash == "driver":
        raise UsageError(f"--hash driver: {_why_no_hash(options, link, mode)}; use --hash program")
    time = choose_time_stamps(options, link, _why_no_query(link, mode))
    for variant in mirror_variants() if options.mirror else variants():
        yield variant, replace(by_program(options, variant), time=time)


def by_program(options: RecordOptions, variant: Variant) -> Metadata:
    """The metadata that a program provides without querying the driver."""
    if variant.foreign:
        return Metadata()
    if variant.can_hash and options.format == "pcapng" and options.hash in ("auto", "program"):
        return Metadata("program", ALGORITHMS[TOEPLITZ])
    return Metadata()


def _from_driver(options: RecordOptions, link: Link) -> Metadata:
    """The metadata that the driver provides; the program's hash where requested or better.

    "auto" takes the driver's hash only if ethtool names its function: veth's is the kernel's
    own, with a secret that changes at every boot.
    """
    offered = net.rx_metadata(link.index)
    tags = bool(offered & RX_VLAN_TAG)
    time = choose_time_stamps(options, link)
    if options.format == "pcapng" and offered & RX_HASH and options.hash in ("auto", "driver"):
        found = net.rss(link.name)
        algorithm = ALGORITHMS.get(found.function, UNKNOWN) if found is not None else UNKNOWN
        if options.hash == "driver" or algorithm != UNKNOWN:
            key = found.key if found is not None else b""
            return Metadata("driver", algorithm, key, tags, time)
    if options.format == "pcapng" and options.hash in ("auto", "program"):
        return Metadata("program", ALGORITHMS[TOEPLITZ], vlan_tags=tags, time=time)
    return Metadata(vlan_tags=tags, time=time)


def _why_no_hash(options: RecordOptions, link: Link, mode: str) -> str:
    if mode == "native" and not net.rx_metadata(link.index) & RX_HASH:
        return f"{link.driver or 'the driver of ' + link.name} reports no hash to XDP programs"
    return _why_no_query(link, mode)


def _why_no_query(link: Link, mode: str) -> str:
    if mode != "native":
        return f"only a native program can query a driver, and the mode is {mode}"
    return f"the kernel accepted no program for {link.name} that queries its driver"
