"""Names of assigned numbers, as far as they help on a line.

Source relied on: IANA's registries of IEEE 802 numbers, protocol numbers, ICMP and ICMPv6
parameters, SCTP chunk types, ARP operations; linux/if_ether.h, linux/if_packet.h.
"""

from __future__ import annotations

IPV4, ARP, RARP, IPV6 = 0x0800, 0x0806, 0x8035, 0x86DD
TEB = 0x6558  # transparent Ethernet bridging, in GRE
VLAN_TPIDS = {0x8100: "VLAN", 0x88A8: "QinQ", 0x9100: "QinQ", 0x9200: "QinQ"}
MPLS_TYPES = (0x8847, 0x8848)
PPP_IN_GRE = 0x880B
LEAST_ETHERTYPE = 0x0600

ETHERTYPES = {
    IPV4: "IPv4",
    ARP: "ARP",
    RARP: "RARP",
    IPV6: "IPv6",
    0x0842: "Wake-on-LAN",
    0x6003: "DECnet",
    TEB: "TEB",
    0x809B: "AppleTalk",
    0x80F3: "AARP",
    0x8100: "802.1Q",
    0x8137: "IPX",
    0x8808: "MAC control",
    0x8809: "slow protocols",
    0x880B: "PPP",
    0x8847: "MPLS",
    0x8848: "MPLS multicast",
    0x8863: "PPPoE discovery",
    0x8864: "PPPoE session",
    0x888E: "EAPOL",
    0x88A2: "ATA over Ethernet",
    0x88A8: "802.1ad",
    0x88BE: "ERSPAN",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
    0x88F7: "PTP",
    0x8902: "CFM",
    0x8906: "FCoE",
    0x9000: "loopback",
}

IP_PROTOCOLS = {
    0: "hop-by-hop",
    1: "ICMP",
    2: "IGMP",
    4: "IPIP",
    6: "TCP",
    8: "EGP",
    17: "UDP",
    33: "DCCP",
    41: "IPv6",
    43: "routing",
    44: "fragment",
    46: "RSVP",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    59: "no next header",
    60: "destination options",
    88: "EIGRP",
    89: "OSPF",
    97: "EtherIP",
    103: "PIM",
    108: "IPComp",
    112: "VRRP",
    115: "L2TP",
    124: "IS-IS",
    132: "SCTP",
    135: "mobility",
    136: "UDP-Lite",
    137: "MPLS",
    139: "HIP",
}

# As tcpdump abbreviates them.
EXTENSIONS = {0: "HBH", 43: "srcrt", 44: "frag", 51: "AH", 60: "DSTOPT"}

ARP_OPERATIONS = {3: "RARP request", 4: "RARP reply", 8: "InARP request", 9: "InARP reply"}

ICMP_TYPES = {
    0: "echo reply",
    3: "unreachable",
    4: "source quench",
    5: "redirect",
    8: "echo request",
    9: "router advertisement",
    10: "router solicitation",
    11: "time exceeded",
    12: "parameter problem",
    13: "time stamp request",
    14: "time stamp reply",
    42: "extended echo request",
    43: "extended echo reply",
}
ICMP_CODES = {
    **dict(enumerate(("net", "host", "protocol", "port", "needs fragmentation", "source route"))),
    **{6: "net unknown", 7: "host unknown", 9: "net prohibited", 10: "host prohibited"},
    13: "filtered",
}

ICMPV6_TYPES = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    130: "multicast listener query",
    131: "multicast listener report",
    132: "multicast listener done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
    143: "multicast listener report v2",
}
ICMPV6_CODES = {
    **dict(enumerate(("no route", "prohibited", "beyond scope", "address", "port", "policy"))),
    6: "reject route",
}

SCTP_CHUNKS = {
    **dict(
        enumerate(
            (
                *("DATA", "INIT", "INIT ACK", "SACK", "HB REQ", "HB ACK", "ABORT", "SHUTDOWN"),
                *("SHUTDOWN ACK", "OP ERR", "COOKIE ECHO", "COOKIE ACK", "ECN ECHO", "CWR"),
                "SHUTDOWN COMPLETE",
            )
        )
    ),
    **{15: "AUTH", 64: "I-DATA", 128: "ASCONF ACK", 130: "RE-OPTIONS", 132: "PAD"},
    **{192: "FORWARD TSN", 193: "ASCONF", 194: "I-FORWARD TSN"},
}

# linux/if_packet.h, PACKET_HOST and so on.
DIRECTIONS = {0: "in", 1: "broadcast", 2: "multicast", 3: "other host", 4: "out"}


def ethertype_name(number: int) -> str:
    """`IPv4 (0x0800)`, or the number alone."""
    name = ETHERTYPES.get(number)
    return f"0x{number:04x}" if name is None else f"{name} (0x{number:04x})"


def ip_protocol_name(number: int) -> str:
    """`OSPF`, or `proto 253`."""
    return IP_PROTOCOLS.get(number) or f"proto {number}"
