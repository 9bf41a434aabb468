"""Packets of many kinds, built by scapy from addresses that a function may change.

`PACKETS` and `ERRORS` take a function from address to address: built with one that
changes nothing they are the packets as captured, built with another what an edit must
make of them, checksums reckoned by scapy.
"""

from __future__ import annotations

from collections.abc import Callable

from scapy.contrib.ospf import OSPFv3_Hdr, OSPFv3_Hello
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_RR,
    IPOption_SSRR,
    in4_chksum,
)  # fmt: skip
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_Redirect,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    RouterAlert,
    in6_chksum,
)  # fmt: skip
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw

Build = Callable[[Callable[[str], str]], Packet]

A4, B4, C4, D4 = "10.1.2.3", "203.0.113.9", "10.200.0.1", "192.0.2.77"
A6, B6, C6, D6 = "2001:db8::1", "2600:9000::53", "2001:db8:5:6::7", "2400:cb00::aa"
LOCAL = "fe80::a00:27ff:fe4e:66a1"
TEXT = Raw(b"what the packet says, at odd length")


def v4(to, a=A4, b=B4, **fields) -> IP:
    return IP(src=to(a), dst=to(b), **fields)


def v6(to, a=A6, b=B6, **fields) -> IPv6:
    return IPv6(src=to(a), dst=to(b), **fields)


def route(to, kind, *hops, **fields):
    return kind(routers=[to(hop) for hop in hops], **fields)


def summed(ip: Packet, protocol: int, at: int, payload: bytes) -> Packet:
    """A protocol that scapy has no layer for; its checksum, at `at`, as scapy reckons it."""
    if isinstance(ip, IP):
        ip.proto = protocol
        checksum = in4_chksum(protocol, IP(src=ip.src, dst=ip.dst), payload)
    else:
        ip.nh = protocol
        checksum = in6_chksum(protocol, ip, payload)
    return ip / Raw(payload[:at] + checksum.to_bytes(2, "big") + payload[at + 2 :])


PACKETS: dict[str, Build] = {
    "tcp": lambda to: v4(to) / TCP(sport=1, dport=80, seq=77, options=[("MSS", 1460)]) / TEXT,
    "udp": lambda to: v4(to) / UDP(sport=53, dport=4000) / TEXT,
    "udp without checksum": lambda to: v4(to) / UDP(sport=53, dport=4000, chksum=0) / TEXT,
    "icmp echo": lambda to: v4(to) / ICMP(type=8, id=1, seq=2) / TEXT,
    "sctp": lambda to: v4(to) / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"data"),
    "unknown protocol": lambda to: v4(to, proto=253) / TEXT,
    "no payload": lambda to: v4(to, proto=6),
    "udp lite": lambda to: summed(v4(to), 136, 6, bytes([0, 1, 0, 2]) + bytes(9)),
    "dccp": lambda to: summed(v4(to), 33, 6, bytes([0, 1, 0, 2, 4]) + bytes(12)),
    "udp lite 6": lambda to: summed(v6(to), 136, 6, bytes([0, 1, 0, 2]) + bytes(9)),
    "pim6": lambda to: summed(v6(to), 103, 2, b"\x20" + bytes(33)),
    "vrrp 2": lambda to: v4(to, proto=112) / Raw(b"\x21\1\1\1\0\1\x12\x34" + bytes(12)),
    "vrrp 3": lambda to: summed(v4(to), 112, 6, b"\x31\1\1\1\0\1" + bytes(6)),
    "vrrp 3 on ipv6": lambda to: summed(v6(to), 112, 6, b"\x31\1\1\1\0\1" + bytes(18)),
    "host identity": lambda to: summed(v6(to), 139, 4, b"\x3b\4\0\x11" + bytes(36)),
    "authenticated": lambda to: v6(to) / AH(spi=1, seq=1, icv=bytes(12)) / TCP() / TEXT,
    "ip in ip": lambda to: v4(to) / v4(to, C4, D4) / UDP(sport=5, dport=6) / TEXT,
    "ipv6 in ip": lambda to: v4(to) / v6(to) / TCP(sport=5, dport=6) / TEXT,
    "ip in ipv6": lambda to: v6(to) / v4(to, C4, D4) / TCP(sport=5, dport=6) / TEXT,
    "ipv6 in ipv6": lambda to: v6(to) / v6(to, C6, D6) / UDP(sport=5, dport=6) / TEXT,
    "recorded route": lambda to: (
        v4(to, options=[IPOption_NOP(), route(to, IPOption_RR, A4, D4, "0.0.0.0", pointer=12)])
        / TCP() / TEXT
    ),
    "recorded route at an odd offset": lambda to: (
        v4(to, options=[route(to, IPOption_RR, A4, D4, pointer=12)]) / UDP() / TEXT
    ),
    "loose route": lambda to: (
        v4(to, options=[route(to, IPOption_LSRR, C4, D4, pointer=4)]) / TCP() / TEXT
    ),
    "strict route, used up": lambda to: (
        summed(
            v4(to, options=[IPOption_NOP(), route(to, IPOption_SSRR, C4, D4, pointer=12)]),
            *(17, 6, bytes([0, 5, 0, 9, 0, 12]) + b"\0\0text"),
        )
    ),
    "icmp redirect": lambda to: (
        v4(to) / ICMP(type=5, code=1, gw=to(C4)) / v4(to, B4, D4) / UDP() / b"8"
    ),
    "tcp6": lambda to: v6(to) / TCP(sport=1, dport=80) / TEXT,
    "udp6": lambda to: v6(to) / UDP(sport=53, dport=4000) / TEXT,
    "udp6 without checksum": lambda to: v6(to) / UDP(sport=53, dport=4000, chksum=0) / TEXT,
    "icmpv6 echo": lambda to: v6(to) / ICMPv6EchoRequest(id=1, seq=2, data=b"odd"),
    "neighbour solicitation": lambda to: (
        v6(to, LOCAL, "ff02::1:ff00:1") / ICMPv6ND_NS(tgt=to(A6))
        / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
    ),
    "neighbour advertisement": lambda to: v6(to, A6, LOCAL) / ICMPv6ND_NA(tgt=to(C6)),
    "duplicate address detection": lambda to: (
        v6(to, "::", "ff02::1:ff00:1") / ICMPv6ND_NS(tgt=to(A6))
    ),
    "redirect6": lambda to: (
        v6(to, LOCAL, A6) / ICMPv6ND_Redirect(tgt=to("fe80::7"), dst=to(D6))
    ),
    "hop by hop and destination options": lambda to: (
        v6(to) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrDestOpt() / TCP() / TEXT
    ),
    "routing header": lambda to: (
        v6(to) / IPv6ExtHdrRouting(addresses=[to(C6), to(D6)], segleft=2) / TCP() / TEXT
    ),
    "routing header, used up": lambda to: (
        v6(to) / IPv6ExtHdrRouting(addresses=[to(C6), to(D6)], segleft=0) / UDP() / TEXT
    ),
    "segment routing": lambda to: (
        v6(to) / IPv6ExtHdrSegmentRouting(addresses=[to(C6), to(D6), to(B6)], segleft=2)
        / UDP() / TEXT
    ),
    "segment routing, used up": lambda to: (
        v6(to) / IPv6ExtHdrSegmentRouting(addresses=[to(C6), to(D6)], segleft=0) / TCP() / TEXT
    ),
    "home address": lambda to: (
        v6(to) / IPv6ExtHdrDestOpt(options=[HAO(hoa=to(D6))]) / UDP(sport=1, dport=2) / TEXT
    ),
    "mobility": lambda to: v6(to) / MIP6MH_BU(seq=5, mhtime=9),
    "ospf6": lambda to: v6(to, A6, "ff02::5") / OSPFv3_Hdr(src="1.2.3.4") / OSPFv3_Hello(),
}  # fmt: skip

ERRORS: dict[str, Build] = {
    "unreachable": lambda to: v4(to) / ICMP(type=3, code=3),
    "time exceeded": lambda to: v4(to) / ICMP(type=11),
    "parameter problem": lambda to: v4(to) / ICMP(type=12, ptr=3),
    "unreachable6": lambda to: v6(to) / ICMPv6DestUnreach(),
    "too big": lambda to: v6(to) / ICMPv6PacketTooBig(),
    "time exceeded6": lambda to: v6(to) / ICMPv6TimeExceeded(),
}

# What stands between the MAC addresses and the network header.
TAGS: dict[str, Callable[[], Packet]] = {
    "untagged": lambda: Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"),
    "tagged": lambda: TAGS["untagged"]() / Dot1Q(vlan=100, prio=5),
    "double": lambda: TAGS["untagged"]() / Dot1AD(vlan=7) / Dot1Q(vlan=100, dei=1),
    "triple": lambda: TAGS["untagged"]() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3),
}


def same(address: str) -> str:
    """The function that changes nothing."""
    return address
