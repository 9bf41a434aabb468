"""The flow of a packet: its ends, and a hash that is the same in both directions.

Purpose: keep the packets of one flow on one queue and in order; tell its two sides apart.
Owner: none; pure functions.

Taken together are protocol, both addresses and both ports (TCP, UDP, SCTP, UDP-Lite,
DCCP); a fragment has no ports to be relied on, so all fragments of two hosts are one
flow.  VLAN tags (802.1Q, 802.1ad) are stepped over.  What is not IP hashes to 0.

Source relied on: RFC 791, RFC 8200 sections 4 and 4.5, IEEE 802.1Q.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    ETH_IPV4 = 0x0800
    ETH_IPV6 = 0x86DD
    ETH_VLAN = 0x8100
    ETH_QINQ = 0x88A8
    IPV6_HOP = 0
    IPV6_ROUTING = 43
    IPV6_FRAGMENT = 44
    IPV6_OPTIONS = 60
    MOST_EXTENSIONS = 8


cdef inline uint16_t _be16(const unsigned char *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef inline uint64_t _words(const unsigned char *p, uint32_t size) noexcept nogil:
    cdef uint64_t value = 0, word = 0
    cdef uint32_t done = 0, part
    while done < size:
        part = size - done if size - done < 8 else 8
        word = 0
        memcpy(&word, p + done, part)
        value = mix64(value ^ word)
        done += part
    return value


cdef inline bint _has_ports(unsigned char protocol) noexcept nogil:
    return protocol in (6, 17, 132, 136, 33)


cdef inline void _ports(const unsigned char *data, uint32_t length, uint32_t at,
                        FlowEnds *ends) noexcept nogil:
    if length < at + 4 or not _has_ports(ends.protocol):
        return
    ends.has_ports = True
    ends.transport = at
    ends.source_port = _be16(data + at)
    ends.target_port = _be16(data + at + 2)


cdef bint _ipv4(const unsigned char *data, uint32_t length, uint32_t at,
                FlowEnds *ends) noexcept nogil:
    cdef const unsigned char *p = data + at
    cdef uint32_t header
    if length < at + 20 or p[0] >> 4 != 4:
        return False
    header = <uint32_t>(p[0] & 15) * 4
    ends.version = 4
    ends.protocol = p[9]
    memcpy(ends.source, p + 12, 4)
    memcpy(ends.target, p + 16, 4)
    if header >= 20 and _be16(p + 6) & 0x3FFF == 0:
        _ports(data, length, at + header, ends)
    return True


cdef bint _ipv6(const unsigned char *data, uint32_t length, uint32_t at,
                FlowEnds *ends) noexcept nogil:
    cdef const unsigned char *p = data + at
    cdef uint32_t i
    cdef unsigned char protocol
    if length < at + 40 or p[0] >> 4 != 6:
        return False
    protocol = p[6]
    ends.version = 6
    memcpy(ends.source, p + 8, 16)
    memcpy(ends.target, p + 24, 16)
    at += 40
    for i in range(MOST_EXTENSIONS):
        if protocol not in (IPV6_HOP, IPV6_ROUTING, IPV6_FRAGMENT, IPV6_OPTIONS):
            break
        if length < at + 8:
            return True
        if protocol == IPV6_FRAGMENT:
            ends.protocol = data[at]
            return True
        protocol = data[at]
        at += (<uint32_t>data[at + 1] + 1) * 8
    ends.protocol = protocol
    _ports(data, length, at, ends)
    return True


cdef uint32_t network_header(const unsigned char *data, uint32_t length,
                             uint16_t *kind) noexcept nogil:
    """Offset of what follows the Ethernet header and VLAN tags, and its EtherType; 0 if short."""
    cdef uint32_t at = 12
    while length >= at + 2:
        kind[0] = _be16(data + at)
        if kind[0] != ETH_VLAN and kind[0] != ETH_QINQ:
            return at + 2
        at += 4
    return 0


cdef bint flow_ends(const unsigned char *data, uint32_t length, FlowEnds *ends) noexcept nogil:
    """Take an Ethernet frame's ends apart; False for what is not IP."""
    cdef uint16_t kind = 0
    cdef uint32_t at = network_header(data, length, &kind)
    memset(ends, 0, sizeof(ends[0]))
    if at == 0:
        return False
    if kind == ETH_IPV4:
        return _ipv4(data, length, at, ends)
    return kind == ETH_IPV6 and _ipv6(data, length, at, ends)


cdef uint32_t flow_hash(const unsigned char *data, uint32_t length) noexcept nogil:
    """The hash of an Ethernet frame's flow; 0 for what is not IP."""
    cdef FlowEnds ends
    cdef uint32_t size, hash
    cdef uint64_t source, target
    if not flow_ends(data, length, &ends):
        return 0
    size = 4 if ends.version == 4 else 16
    source = _words(ends.source, size)
    target = _words(ends.target, size)
    if ends.has_ports:
        source = mix64(source + mix64(ends.source_port + 1))
        target = mix64(target + mix64(ends.target_port + 1))
    # Added, so that it does not matter which end is which.
    hash = <uint32_t>(mix64(source + target + ends.protocol) >> 32)
    return hash if hash else 1


def hash_of(bytes packet not None):
    """The flow hash of an Ethernet frame, 0 when it is not IP (for tests and tools)."""
    return flow_hash(packet, <uint32_t>len(packet))
