"""The flow of a packet: a hash that is the same in both directions.

Purpose: keep the packets of one flow on one queue and in order.
Owner: none; pure functions.

Taken together are protocol, both addresses and both ports (TCP, UDP, SCTP, UDP-Lite,
DCCP); a fragment has no ports to be relied on, so all fragments of two hosts are one
flow.  VLAN tags (802.1Q, 802.1ad) are stepped over.  What is not IP hashes to 0.

Source relied on: RFC 791, RFC 8200 sections 4 and 4.5, IEEE 802.1Q.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

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


cdef inline uint64_t _mix(uint64_t x) noexcept nogil:
    # The finaliser of SplitMix64: every bit of the input reaches every bit of the hash.
    x ^= x >> 30
    x *= <uint64_t>0xBF58476D1CE4E5B9
    x ^= x >> 27
    x *= <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t _words(const unsigned char *p, uint32_t size) noexcept nogil:
    cdef uint64_t value = 0, word = 0
    cdef uint32_t done = 0, part
    while done < size:
        part = size - done if size - done < 8 else 8
        word = 0
        memcpy(&word, p + done, part)
        value = _mix(value ^ word)
        done += part
    return value


cdef inline bint _has_ports(unsigned char protocol) noexcept nogil:
    return protocol in (6, 17, 132, 136, 33)


cdef uint32_t _finish(uint64_t one, uint64_t other, unsigned char protocol) noexcept nogil:
    # Added, so that it does not matter which end is which.
    cdef uint64_t mixed = _mix(one + other + protocol)
    cdef uint32_t hash = <uint32_t>(mixed >> 32)
    return hash if hash else 1


cdef uint32_t _ipv4(const unsigned char *p, uint32_t length) noexcept nogil:
    cdef uint32_t header
    cdef uint64_t source, target
    if length < 20 or p[0] >> 4 != 4:
        return 0
    header = <uint32_t>(p[0] & 15) * 4
    source = _words(p + 12, 4)
    target = _words(p + 16, 4)
    if (header >= 20 and length >= header + 4 and _has_ports(p[9])
            and _be16(p + 6) & 0x3FFF == 0):
        source += _mix(_be16(p + header) + 1)
        target += _mix(_be16(p + header + 2) + 1)
        source, target = _mix(source), _mix(target)
    return _finish(source, target, p[9])


cdef uint32_t _ipv6(const unsigned char *p, uint32_t length) noexcept nogil:
    cdef uint32_t at = 40, i
    cdef unsigned char protocol
    cdef bint fragment = False
    cdef uint64_t source, target
    if length < 40 or p[0] >> 4 != 6:
        return 0
    protocol = p[6]
    source = _words(p + 8, 16)
    target = _words(p + 24, 16)
    for i in range(MOST_EXTENSIONS):
        if protocol not in (IPV6_HOP, IPV6_ROUTING, IPV6_FRAGMENT, IPV6_OPTIONS):
            break
        if length < at + 8:
            return _finish(source, target, 0)
        if protocol == IPV6_FRAGMENT:
            fragment = True
            protocol = p[at]
            at += 8
            break
        protocol = p[at]
        at += (<uint32_t>p[at + 1] + 1) * 8
    if not fragment and length >= at + 4 and _has_ports(protocol):
        source = _mix(source + _mix(_be16(p + at) + 1))
        target = _mix(target + _mix(_be16(p + at + 2) + 1))
    return _finish(source, target, protocol)


cdef uint32_t flow_hash(const unsigned char *data, uint32_t length) noexcept nogil:
    """The hash of an Ethernet frame's flow; 0 for what is not IP."""
    cdef uint32_t at = 12
    cdef uint16_t kind
    while length >= at + 2:
        kind = _be16(data + at)
        if kind == ETH_VLAN or kind == ETH_QINQ:
            at += 4
            continue
        if kind == ETH_IPV4:
            return _ipv4(data + at + 2, length - at - 2)
        if kind == ETH_IPV6:
            return _ipv6(data + at + 2, length - at - 2)
        return 0
    return 0


def hash_of(bytes packet not None):
    """The flow hash of an Ethernet frame, 0 when it is not IP (for tests and tools)."""
    return flow_hash(packet, <uint32_t>len(packet))
