"""New addresses for a packet, and checksums that stay what they were: right or wrong.

Purpose: map every address of a frame that its delivery depends on.
Owner: none; pure functions on the caller's bytes.

Mapped are the addresses of IPv4, IPv6 and ARP headers behind any number of VLAN tags,
in IPv4's route options, IPv6's routing headers and home address, neighbour discovery
(solicitation, advertisement, redirect), ICMP's redirect, the packet that an ICMP error
quotes, and IP in IP.  Addresses in other payloads stay (IGMP, MLD, DHCP, DNS, tunnels
over UDP).

Checksums are updated by the difference (RFC 1624), never computed anew: that is right
as well for a first fragment and for a packet of which the file holds the start only, and
a checksum that was wrong stays as wrong as it was.  Lengths are believed only as far as
the bytes go.

Source relied on: RFC 768, 791, 792, 826, 1624, 3828, 4340, 4443, 4861, 5340, 5798, 6275,
7401, 7761, 8200 (section 8.1, the pseudo-header), 8754, 9293.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy

from xdpcap.packets.edit.address_map cimport AddressRules, map_ipv4, map_ipv6
from xdpcap.packets.flow cimport network_header

cdef enum:
    ETH_IPV4 = 0x0800
    ETH_ARP = 0x0806
    ETH_RARP = 0x8035
    ETH_IPV6 = 0x86DD
    ICMP = 1
    IPV4_IN_IP = 4
    TCP = 6
    UDP = 17
    DCCP = 33
    IPV6_IN_IP = 41
    ICMPV6 = 58
    OSPF = 89
    PIM = 103
    VRRP = 112
    MOBILITY = 135
    UDP_LITE = 136
    HIP = 139
    HOP_BY_HOP = 0
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51
    DESTINATION_OPTIONS = 60
    OPTION_RECORD_ROUTE = 7
    OPTION_LOOSE_ROUTE = 131
    OPTION_STRICT_ROUTE = 137
    OPTION_HOME_ADDRESS = 0xC9
    # A packet in a packet in a packet; more is nothing but an attack on the stack.
    MOST_DEPTH = 3

# A change is how much the sum of some 16-bit words grew; 0xFFFF is as good as nothing.


cdef inline uint16_t _be16(const unsigned char *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef int64_t _change(const unsigned char *old, const unsigned char *now,
                     uint32_t size) noexcept nogil:
    cdef int64_t change = 0
    cdef uint32_t at
    for at in range(0, size, 2):
        change += <int64_t>_be16(now + at) - <int64_t>_be16(old + at)
    return change


cdef inline int64_t _placed(uint32_t offset, int64_t change) noexcept nogil:
    """A change as it counts in a sum whose words begin `offset` bytes before."""
    return change << 8 if offset & 1 else change


cdef int64_t _map4(const AddressRules *rules, unsigned char *address) noexcept nogil:
    cdef unsigned char[4] old
    memcpy(old, address, 4)
    return _change(old, address, 4) if map_ipv4(rules, address) else 0


cdef int64_t _map6(const AddressRules *rules, unsigned char *address) noexcept nogil:
    cdef unsigned char[16] old
    memcpy(old, address, 16)
    return _change(old, address, 16) if map_ipv6(rules, address) else 0


cdef int64_t _fix(unsigned char *field, int64_t change) noexcept nogil:
    """Update a checksum for a change in what it covers; returns its own change."""
    cdef int64_t old = _be16(field), now
    change %= 0xFFFF
    if change == 0:
        return 0
    now = ((~old & 0xFFFF) + change) % 0xFFFF
    if now <= 0:
        # A sum is 0 only when all is 0, and addresses aren't.
        now += 0xFFFF
    now = ~now & 0xFFFF
    field[0] = now >> 8
    field[1] = now & 0xFF
    return now - old


cdef int64_t _fix_udp(unsigned char *field, int64_t change) noexcept nogil:
    """The same for UDP, where 0 means that there is none and 0xFFFF stands for 0."""
    cdef int64_t its_change
    if _be16(field) == 0:
        return 0
    its_change = _fix(field, change)
    if _be16(field) == 0:
        field[0] = field[1] = 0xFF
        its_change += 0xFFFF
    return its_change


# -- IPv4 ----------------------------------------------------------------------------------


cdef int64_t _route_options(const AddressRules *rules, unsigned char *p, uint32_t header,
                            int64_t *target) noexcept nogil:
    """Map the addresses of route options; `target` becomes the change of the last hop.

    A route that is not used up yet ends at the address that the pseudo-header has.
    """
    cdef uint32_t at = 20, size, slot
    cdef int64_t total = 0, change
    while at + 2 <= header and p[at] != 0:
        size = p[at + 1]
        if p[at] == 1:
            at += 1
            continue
        if size < 2 or at + size > header:
            break
        if p[at] in (OPTION_RECORD_ROUTE, OPTION_LOOSE_ROUTE, OPTION_STRICT_ROUTE):
            slot = at + 3
            while slot + 4 <= at + size:
                change = _map4(rules, p + slot)
                total += _placed(slot, change)
                slot += 4
                if p[at] != OPTION_RECORD_ROUTE and p[at + 2] <= size and slot + 4 > at + size:
                    target[0] = change
        at += size
    return total


cdef int64_t _ipv4(const AddressRules *rules, unsigned char *p, uint32_t length,
                   uint32_t depth) noexcept nogil:
    """Map an IPv4 packet; returns the change of everything in it."""
    cdef uint32_t header, stated
    cdef int64_t source, target, total
    if length < 20 or p[0] >> 4 != 4:
        return 0
    header = <uint32_t>(p[0] & 15) * 4
    if header < 20:
        return 0
    stated = _be16(p + 2)
    if stated >= header and stated < length:
        # What follows is the frame's padding.
        length = stated
    source = _map4(rules, p + 12)
    target = _map4(rules, p + 16)
    total = source + target
    total += _route_options(rules, p, header if header < length else length, &target)
    total += _fix(p + 10, total)
    if length > header and _be16(p + 6) & 0x1FFF == 0:
        total += _upper(rules, p[9], False, p + header, length - header,
                        source + target, depth)
    return total


# -- IPv6 ----------------------------------------------------------------------------------


cdef int64_t _routing(const AddressRules *rules, unsigned char *p, uint32_t size,
                      int64_t *target) noexcept nogil:
    """Map a routing header's addresses; `target` becomes the change of the last hop.

    Types 0 (RFC 2460), 2 (RFC 6275) and 4 (RFC 8754, which counts backwards).
    """
    cdef uint32_t count = (size - 8) >> 4, i, last
    cdef int64_t total = 0, change
    if p[2] not in (0, 2, 4):
        return 0
    if p[2] == 4 and <uint32_t>p[4] + 1 < count:
        count = <uint32_t>p[4] + 1
    last = 0 if p[2] == 4 else count - 1
    for i in range(count):
        change = _map6(rules, p + 8 + 16 * i)
        total += change
        if p[3] and i == last:
            target[0] = change
    return total


cdef int64_t _home_address(const AddressRules *rules, unsigned char *p, uint32_t size,
                           int64_t *source) noexcept nogil:
    """Map the home address option, which is the source that the pseudo-header has."""
    cdef uint32_t at = 2
    cdef int64_t total = 0, change
    while at + 2 <= size:
        if p[at] == 0:
            at += 1
            continue
        if p[at] == OPTION_HOME_ADDRESS and p[at + 1] == 16 and at + 18 <= size:
            change = _map6(rules, p + at + 2)
            total += _placed(at, change)
            source[0] = change
        at += 2 + <uint32_t>p[at + 1]
    return total


cdef inline uint32_t _extension(const unsigned char *p, unsigned char protocol) noexcept nogil:
    """The size of an extension header of which 8 bytes are there; 0 when it is none."""
    if protocol in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        return (<uint32_t>p[1] + 1) * 8
    if protocol == AUTHENTICATION:
        return (<uint32_t>p[1] + 2) * 4
    return 8 if protocol == FRAGMENT else 0


cdef int64_t _ipv6(const AddressRules *rules, unsigned char *p, uint32_t length,
                   uint32_t depth) noexcept nogil:
    """Map an IPv6 packet; returns the change of everything in it."""
    cdef uint32_t at = 40, size
    cdef unsigned char protocol
    cdef int64_t source, target, total
    if length < 40 or p[0] >> 4 != 6:
        return 0
    size = 40 + <uint32_t>_be16(p + 4)
    if 40 < size < length:
        length = size
    source = _map6(rules, p + 8)
    target = _map6(rules, p + 24)
    total = source + target
    protocol = p[6]
    # Each takes 8 bytes at least, so the packet's end bounds this.
    while True:
        size = _extension(p + at, protocol) if length >= at + 8 else 0
        if size == 0:
            break
        if protocol == FRAGMENT and _be16(p + at + 2) & 0xFFF8:
            return total
        if protocol == ROUTING and length >= at + size:
            total += _routing(rules, p + at, size, &target)
        elif protocol == DESTINATION_OPTIONS and length >= at + size:
            total += _home_address(rules, p + at, size, &source)
        protocol = p[at]
        at += size
        if at >= length:
            return total
    if length > at:
        total += _upper(rules, protocol, True, p + at, length - at,
                        source + target, depth)
    return total


# -- what IP carries -----------------------------------------------------------------------


cdef int64_t _icmp(const AddressRules *rules, unsigned char *p, uint32_t length,
                   uint32_t depth) noexcept nogil:
    """Map an ICMP redirect's gateway and the packet that an error quotes (RFC 792)."""
    cdef int64_t total = 0
    if length < 8:
        return 0
    if p[0] == 5:
        total += _map4(rules, p + 4)
    if p[0] in (3, 4, 5, 11, 12):
        total += _ipv4(rules, p + 8, length - 8, depth + 1)
    return total


cdef int64_t _icmpv6(const AddressRules *rules, unsigned char *p, uint32_t length,
                     uint32_t depth) noexcept nogil:
    """Map the packet that an error quotes (RFC 4443), and neighbour discovery's addresses."""
    cdef int64_t total = 0
    if length >= 8 and p[0] in (1, 2, 3, 4):
        return _ipv6(rules, p + 8, length - 8, depth + 1)
    if length >= 24 and p[0] in (135, 136, 137):
        total += _map6(rules, p + 8)
    if length >= 40 and p[0] == 137:
        total += _map6(rules, p + 24)
    return total


cdef uint32_t _checksum_at(unsigned char protocol, bint ipv6,
                           const unsigned char *p) noexcept nogil:
    """Where the checksum stands that covers a pseudo-header; 0 for protocols without."""
    if protocol == TCP:
        return 16
    if protocol in (UDP, UDP_LITE, DCCP):
        return 6
    if protocol == VRRP:
        # Its version 2 has none.
        return 6 if p[0] >> 4 == 3 else 0
    if protocol == HIP:
        return 4
    if not ipv6:
        return 0
    if protocol in (ICMPV6, PIM):
        return 2
    if protocol == MOBILITY:
        return 4
    return 12 if protocol == OSPF else 0


cdef int64_t _upper(const AddressRules *rules, unsigned char protocol, bint ipv6,
                    unsigned char *p, uint32_t length, int64_t pseudo,
                    uint32_t depth) noexcept nogil:
    """Map what a transport header holds and fix its checksum; returns the change of it all.

    `pseudo` is the change of the pseudo-header's addresses.
    """
    cdef int64_t inner = 0
    cdef uint32_t at = _checksum_at(protocol, ipv6, p)
    if depth < MOST_DEPTH:
        if protocol == IPV4_IN_IP:
            return _ipv4(rules, p, length, depth + 1)
        if protocol == IPV6_IN_IP:
            return _ipv6(rules, p, length, depth + 1)
        if protocol == ICMP:
            inner = _icmp(rules, p, length, depth)
            # Without a pseudo-header.
            return inner + _fix(p + 2, inner) if length >= 4 else 0
        if protocol == ICMPV6 and ipv6:
            inner = _icmpv6(rules, p, length, depth)
    if at == 0 or length < at + 2:
        return inner
    if protocol == UDP or protocol == UDP_LITE:
        return _fix_udp(p + at, pseudo)
    return inner + _fix(p + at, pseudo + inner)


# -- frames --------------------------------------------------------------------------------


cdef void _arp(const AddressRules *rules, unsigned char *p, uint32_t length) noexcept nogil:
    """Map the protocol addresses of (R)ARP for IPv4, whatever the hardware."""
    cdef uint32_t sender, target
    if length < 8 or _be16(p + 2) != ETH_IPV4 or p[5] != 4:
        return
    sender = 8 + <uint32_t>p[4]
    target = sender + 4 + <uint32_t>p[4]
    if length >= sender + 4:
        map_ipv4(rules, p + sender)
    if length >= target + 4:
        map_ipv4(rules, p + target)


cdef void readdress(const AddressRules *rules, unsigned char *frame,
                    uint32_t length) noexcept nogil:
    """Map the addresses of an Ethernet frame and keep its checksums right."""
    cdef uint16_t kind = 0
    cdef uint32_t at = network_header(frame, length, &kind)
    if at == 0:
        return
    if kind == ETH_IPV4:
        _ipv4(rules, frame + at, length - at, 0)
    elif kind == ETH_IPV6:
        _ipv6(rules, frame + at, length - at, 0)
    elif kind == ETH_ARP or kind == ETH_RARP:
        _arp(rules, frame + at, length - at)
