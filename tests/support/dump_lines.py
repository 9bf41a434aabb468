"""Packets of every protocol that `xdpcap dump` knows, with the line that each must have."""

from __future__ import annotations

from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import (
    ARP,
    GRE,
    LLC,
    STP,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
)
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkCookieAck,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkSACK,
)
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy_packets import A4, A6, B4, B6, C4, D4, LOCAL, TEXT, same, v4, v6

from xdpcap.packets.dissect import dissect
from xdpcap.packets.dissect.text import Style, packet_text

ETHERNET = 1
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def eth() -> Packet:
    return Ether(**MACS)


def line(data: bytes | Packet, linktype: int = ETHERNET, origlen: int | None = None, **style):
    raw = bytes(data)
    wire = len(raw) if origlen is None else origlen
    return packet_text(dissect(linktype, raw, wire), wire, Style(**style))


LINES: dict[str, tuple[Packet, str]] = {
    "no flags": (
        eth()
        / IP(src="10.0.0.2", dst="10.0.0.1")
        / TCP(sport=9203, dport=0, seq=437136853, flags=0)
        / Raw(b"6bytes"),
        "IP 10.0.0.2:9203 > 10.0.0.1:0 TCP seq 437136853, length 6",
    ),
    "tcp": (
        eth() / v4(same) / TCP(sport=1, dport=80, seq=7, ack=9, flags="PA") / TEXT,
        f"IP {A4}:1 > {B4}:80 TCP [P.] seq 7, ack 9, length 35",
    ),
    "all tcp flags": (
        eth() / v4(same) / TCP(sport=1, dport=2, seq=7, ack=9, flags=0x1FF),
        f"IP {A4}:1 > {B4}:2 TCP [FSRP.UEWe] seq 7, ack 9, length 0",
    ),
    "udp": (eth() / v4(same) / UDP(sport=5, dport=6) / TEXT, f"IP {A4}:5 > {B4}:6 UDP length 35"),
    "tcp6": (
        eth() / v6(same) / TCP(sport=1, dport=80, seq=7) / TEXT,
        f"IP6 [{A6}]:1 > [{B6}]:80 TCP [S] seq 7, length 35",
    ),
    "udp6": (
        eth() / v6(same) / UDP(sport=5, dport=6) / TEXT,
        f"IP6 [{A6}]:5 > [{B6}]:6 UDP length 35",
    ),
    "icmp": (
        eth() / v4(same) / ICMP(type=8, id=1, seq=2) / TEXT,
        f"IP {A4} > {B4} ICMP echo request, id 1, seq 2, length 43",
    ),
    "icmp unreachable": (
        eth() / v4(same) / ICMP(type=3, code=3) / v4(same, B4, A4) / UDP(),
        f"IP {A4} > {B4} ICMP unreachable, port, length 36",
    ),
    "icmp needs fragmentation": (
        eth() / v4(same) / ICMP(type=3, code=4, nexthopmtu=1400),
        f"IP {A4} > {B4} ICMP unreachable, needs fragmentation, mtu 1400, length 8",
    ),
    "icmp redirect": (
        eth() / v4(same) / ICMP(type=5, code=1, gw=C4),
        f"IP {A4} > {B4} ICMP redirect, to {C4}, length 8",
    ),
    "icmp of another type": (
        eth() / v4(same) / ICMP(type=200, code=7),
        f"IP {A4} > {B4} ICMP type 200 code 7, length 8",
    ),
    "icmpv6": (
        eth() / v6(same) / ICMPv6EchoRequest(id=1, seq=2, data=b"odd"),
        f"IP6 {A6} > {B6} ICMPv6 echo request, id 1, seq 2, length 11",
    ),
    "neighbor solicitation": (
        eth() / v6(same, LOCAL, "ff02::1:ff00:1") / ICMPv6ND_NS(tgt=A6),
        f"IP6 {LOCAL} > ff02::1:ff00:1 ICMPv6 neighbor solicitation, who has {A6}, length 24",
    ),
    "icmpv6 unreachable": (
        eth() / v6(same) / ICMPv6DestUnreach(code=4),
        f"IP6 {A6} > {B6} ICMPv6 unreachable, port, length 8",
    ),
    "icmpv6 too big": (
        eth() / v6(same) / ICMPv6PacketTooBig(mtu=1280),
        f"IP6 {A6} > {B6} ICMPv6 packet too big, mtu 1280, length 8",
    ),
    "sctp": (
        eth() / v4(same) / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"data", tsn=77),
        f"IP {A4}:1 > {B4}:2 SCTP DATA tsn 77, length 20",
    ),
    "sctp of several chunks": (
        eth()
        / v6(same)
        / SCTP(sport=1, dport=2)
        / SCTPChunkCookieAck()
        / SCTPChunkSACK(cumul_tsn_ack=5)
        / SCTPChunkData(data=b"abcd", tsn=9),
        f"IP6 [{A6}]:1 > [{B6}]:2 SCTP COOKIE ACK, SACK ack 5, DATA tsn 9, length 40",
    ),
    "sctp init": (
        eth() / v4(same) / SCTP(sport=1, dport=2) / SCTPChunkInit(init_tag=3),
        f"IP {A4}:1 > {B4}:2 SCTP INIT tag 3, length 20",
    ),
    "arp request": (
        eth() / ARP(op=1, psrc=A4, pdst=B4),
        f"ARP who-has {B4} tell {A4}, length 28",
    ),
    "arp reply": (
        eth() / ARP(op=2, hwsrc=MACS["src"], psrc=A4, pdst=B4),
        f"ARP {A4} is-at {MACS['src']}, length 28",
    ),
    "arp of no Ethernet": (
        eth() / ARP(hwtype=7, hwlen=8, plen=4, op=1, hwsrc=bytes(8), hwdst=bytes(8)),
        f"Ethernet {MACS['src']} > {MACS['dst']} ARP hardware 7 protocol IPv4 (0x0800), length 32",
    ),
    "vlan": (
        eth() / Dot1Q(vlan=100, prio=5) / v4(same) / UDP(sport=5, dport=6),
        f"VLAN 100 p5 IP {A4}:5 > {B4}:6 UDP length 0",
    ),
    "qinq": (
        eth() / Dot1AD(vlan=7) / Dot1Q(vlan=100, dei=1) / ARP(op=1, psrc=A4, pdst=B4),
        f"QinQ 7 VLAN 100 DEI ARP who-has {B4} tell {A4}, length 28",
    ),
    "mpls": (
        eth() / MPLS(label=16, s=0) / MPLS(label=17, s=1) / v4(same) / UDP(sport=5, dport=6),
        f"MPLS 16 MPLS 17 IP {A4}:5 > {B4}:6 UDP length 0",
    ),
    "mpls with ipv6": (
        eth() / MPLS(label=16, s=1) / v6(same) / TCP(sport=5, dport=6, seq=1),
        f"MPLS 16 IP6 [{A6}]:5 > [{B6}]:6 TCP [S] seq 1, length 0",
    ),
    "mpls with something else": (
        eth() / MPLS(label=16, s=1) / Raw(b"\0\0\0\0word"),
        "MPLS 16 data, length 8",
    ),
    "gre": (
        eth() / v4(same) / GRE() / v4(same, C4, D4) / TCP(sport=5, dport=6, seq=1) / TEXT,
        f"IP {A4} > {B4} GRE IP {C4}:5 > {D4}:6 TCP [S] seq 1, length 35",
    ),
    "gre with everything": (
        eth()
        / v6(same)
        / GRE(chksum_present=1, key_present=1, key=0xABC, seqnum_present=1, seqence_number=4)
        / v6(same)
        / UDP(sport=5, dport=6),
        f"IP6 {A6} > {B6} GRE key 0xabc IP6 [{A6}]:5 > [{B6}]:6 UDP length 0",
    ),
    "gre with Ethernet": (
        eth() / v4(same) / GRE(proto=0x6558) / eth() / v4(same, C4, D4) / UDP(sport=5, dport=6),
        f"IP {A4} > {B4} GRE IP {C4}:5 > {D4}:6 UDP length 0",
    ),
    "gre with something else": (
        eth() / v4(same) / GRE(proto=0x88BE) / TEXT,
        f"IP {A4} > {B4} GRE ERSPAN (0x88be), length 35",
    ),
    "vxlan": (
        eth()
        / v4(same)
        / UDP(sport=5, dport=4789)
        / VXLAN(vni=42, flags=8)
        / eth()
        / v6(same)
        / TCP(sport=5, dport=6, seq=1),
        f"IP {A4}:5 > {B4}:4789 UDP VXLAN 42 IP6 [{A6}]:5 > [{B6}]:6 TCP [S] seq 1, length 0",
    ),
    "vxlan with arp in a vlan": (
        eth()
        / v4(same)
        / UDP(sport=5, dport=8472)
        / VXLAN(vni=42, flags=8)
        / eth()
        / Dot1Q(vlan=3)
        / ARP(op=1, psrc=A4, pdst=B4),
        f"IP {A4}:5 > {B4}:8472 UDP VXLAN 42 VLAN 3 ARP who-has {B4} tell {A4}, length 28",
    ),
    "not a vxlan": (
        eth() / v4(same) / UDP(sport=5, dport=4789) / Raw(bytes(8)),
        f"IP {A4}:5 > {B4}:4789 UDP length 8 VXLAN invalid (flags 0x00)",
    ),
    "ip in ip": (
        eth() / v4(same) / v4(same, C4, D4) / UDP(sport=5, dport=6),
        f"IP {A4} > {B4} IP {C4}:5 > {D4}:6 UDP length 0",
    ),
    "one level in, and no further": (
        eth() / v4(same) / GRE() / v4(same, C4, D4) / GRE() / v4(same) / UDP(),
        f"IP {A4} > {B4} GRE IP {C4} > {D4} GRE GRE, length 28",
    ),
    "fragment": (
        fragment(eth() / v4(same, id=7) / UDP(sport=5, dport=6) / Raw(bytes(40)), 32)[1],
        f"IP {A4} > {B4} (frag 7:16@32) UDP, length 16",
    ),
    "first fragment": (
        fragment(eth() / v4(same, id=7) / UDP(sport=5, dport=6) / Raw(bytes(40)), 32)[0],
        f"IP {A4}:5 > {B4}:6 (frag 7:32@0+) UDP length 40",
    ),
    "later fragment of ipv6": (
        eth() / v6(same) / IPv6ExtHdrFragment(nh=6, offset=3, id=9) / Raw(bytes(8)),
        f"IP6 {A6} > {B6} (frag 9:16@24) frag TCP, length 8",
    ),
    "extensions of ipv6": (
        eth() / v6(same) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6),
        f"IP6 [{A6}]:5 > [{B6}]:6 HBH DSTOPT UDP length 0",
    ),
    "another ip protocol": (eth() / v4(same, proto=89) / TEXT, f"IP {A4} > {B4} OSPF, length 35"),
    "a number that is none": (
        eth() / v4(same, proto=253) / TEXT,
        f"IP {A4} > {B4} proto 253, length 35",
    ),
    "another ethertype": (
        Ether(**MACS, type=0x88CC) / TEXT,
        f"Ethernet {MACS['src']} > {MACS['dst']} LLDP (0x88cc), length 35",
    ),
    "an ethertype without a name": (
        eth() / Dot1Q(vlan=3, type=0x1234) / TEXT,
        f"Ethernet {MACS['src']} > {MACS['dst']} VLAN 3 0x1234, length 35",
    ),
    "802.3": (
        Dot3(**MACS) / LLC() / STP(),
        f"Ethernet {MACS['src']} > {MACS['dst']} STP, length 38",
    ),
    "802.3 with SNAP": (
        Dot3(**MACS) / Raw(b"\xaa\xaa\x03\0\0\0\x08\0") / v4(same) / UDP(sport=5, dport=6),
        f"IP {A4}:5 > {B4}:6 UDP length 0",
    ),
    "wrong version": (
        Ether(**MACS, type=0x0800) / Raw(b"\x65" + bytes(19)),
        "IP invalid (version 6)",
    ),
    "wrong header length": (
        Ether(**MACS, type=0x0800) / Raw(b"\x44" + bytes(19)),
        "IP invalid (header length 16)",
    ),
    "wrong length": (
        Ether(**MACS, type=0x0800) / Raw(b"\x45\0\0\x13" + bytes(16)),
        "IP invalid (length 19)",
    ),
}
