"""What is known of a packet: one small object for each header that was recognised.

Plain data without behaviour; `text` and `fields` say how it is shown. Addresses are the
bytes of the wire (4: IPv4, 6: MAC, 16: IPv6), numbers are in host order, lengths in bytes.
`length` is what follows a header by what the headers say, captured or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class Layer:
    """Base of all; `protocol` is the stable name of its kind."""

    protocol: ClassVar[str]


@dataclass(slots=True)
class Ethernet(Layer):
    """IEEE 802.3. `type` below 1536 is the length of an 802.2 LLC frame."""

    protocol: ClassVar[str] = "ethernet"
    source: bytes
    destination: bytes
    type: int
    length: int


@dataclass(slots=True)
class Cooked(Layer):
    """Linux cooked capture, version 1 (SLL) or 2 (SLL2, which has the interface's number)."""

    protocol: ClassVar[str] = "cooked"
    version: int
    direction: int
    source: bytes
    type: int
    ifindex: int | None
    length: int


@dataclass(slots=True)
class Framing(Layer):
    """A link header that says no more than what follows: BSD loopback, PPP, Cisco HDLC."""

    protocol: ClassVar[str] = "framing"
    name: str
    type: int
    length: int


@dataclass(slots=True)
class Vlan(Layer):
    """A tag of IEEE 802.1Q (`tpid` 0x8100) or 802.1ad (0x88a8), or one from before it."""

    protocol: ClassVar[str] = "vlan"
    tpid: int
    id: int
    priority: int
    drop_eligible: bool
    type: int


@dataclass(slots=True)
class Mpls(Layer):
    """One entry of a label stack (RFC 3032)."""

    protocol: ClassVar[str] = "mpls"
    label: int
    traffic_class: int
    bottom: bool
    ttl: int


@dataclass(slots=True)
class Arp(Layer):
    """ARP for IPv4 on Ethernet (RFC 826), requests and replies, RARP's as well."""

    protocol: ClassVar[str] = "arp"
    operation: int
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes
    length: int


@dataclass(slots=True)
class Ip(Layer):
    """IPv4 (RFC 791) or IPv6 (RFC 8200); `fragment_*` also from an IPv6 fragment header.

    `next` is the protocol of the first header after this one and after IPv6's options.
    """

    protocol: ClassVar[str] = "ip"
    version: int
    source: bytes
    destination: bytes
    next: int
    ttl: int
    traffic_class: int
    id: int | None
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    flow_label: int | None
    length: int


@dataclass(slots=True)
class Extension(Layer):
    """An IPv6 extension header, or IPsec's authentication header, by its protocol number."""

    protocol: ClassVar[str] = "extension"
    number: int


@dataclass(slots=True)
class Tcp(Layer):
    """RFC 9293. `flags` are the nine bits NS, CWR .. FIN; `options` as they stand there."""

    protocol: ClassVar[str] = "tcp"
    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    length: int


@dataclass(slots=True)
class Udp(Layer):
    """RFC 768."""

    protocol: ClassVar[str] = "udp"
    source_port: int
    destination_port: int
    length: int


@dataclass(slots=True)
class Icmp(Layer):
    """RFC 792 or 4443 by `version` (4 or 6); `rest` are the four bytes after the checksum.

    `target` is the address that neighbour discovery is about, else b"".
    """

    protocol: ClassVar[str] = "icmp"
    version: int
    type: int
    code: int
    rest: int
    target: bytes
    length: int


@dataclass(slots=True)
class Chunk:
    """One chunk of SCTP: `number` is what it counts by, where it does (a TSN, a tag)."""

    type: int
    number: int | None


@dataclass(slots=True)
class Sctp(Layer):
    """RFC 9260; `chunks` are the first ones."""

    protocol: ClassVar[str] = "sctp"
    source_port: int
    destination_port: int
    tag: int
    chunks: tuple[Chunk, ...]
    length: int


@dataclass(slots=True)
class Gre(Layer):
    """RFC 2784 and 2890, and version 1, which carries PPP (RFC 2637)."""

    protocol: ClassVar[str] = "gre"
    version: int
    type: int
    key: int | None
    seq: int | None
    length: int


@dataclass(slots=True)
class Vxlan(Layer):
    """RFC 7348."""

    protocol: ClassVar[str] = "vxlan"
    id: int
    length: int


@dataclass(slots=True)
class Payload(Layer):
    """What is not looked into, with its name."""

    protocol: ClassVar[str] = "payload"
    name: str
    length: int


@dataclass(slots=True)
class Cut(Layer):
    """A header of which the packet holds a part only."""

    protocol: ClassVar[str] = "cut"
    name: str


@dataclass(slots=True)
class Invalid(Layer):
    """A header that says what it can't say."""

    protocol: ClassVar[str] = "invalid"
    name: str
    cause: str


@dataclass(slots=True)
class Dissection:
    """A packet's headers from the outside to the inside; `layers` is never empty.

    `link_bytes` is the length of the link header, VLAN tags included.
    """

    layers: list[Layer]
    link_bytes: int
