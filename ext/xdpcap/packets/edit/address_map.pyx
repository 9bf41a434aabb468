"""Addresses to other addresses: prefix by prefix, or at random from a seed.

Purpose: give every address its successor, the same each time and in both directions.
Owner: whoever made the map; it is read-only once made, from any thread.
Frees: the AddressMap.

An address goes by the longest prefix rule that holds it.  What no rule holds is
randomised when there is a seed, by a keyed permutation: two addresses never become one.
Randomised are ordinary unicast addresses alone, and they become such.  As they are stay,
and nothing becomes one of them: IPv4's 0/8, 127/8, 169.254/16 and 224/3 (multicast,
reserved, broadcast), IPv6's ::, ::1 and multicast.  IPv6 keeps its first byte, a
link-local address its first 64 bits, so that its scope stays what it is.

This hides addresses from a reader, not from an attacker who tries seeds.

Source relied on: RFC 6890 (special addresses), RFC 4291 section 2.4.  The permutation is
a balanced Feistel network; a result outside the ordinary ones goes round again (cycle
walking), which keeps it a permutation of the ordinary ones.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from xdpcap.packets.flow cimport mix64

cdef enum:
    # Tweaks, so that the families and scopes don't share one permutation; a first byte
    # of IPv6 is its own tweak.
    TWEAK_IPV4 = 0x100
    TWEAK_LINK_LOCAL = 0x200


# -- prefixes ------------------------------------------------------------------------------


cdef inline uint8_t _mask(uint8_t bits) noexcept nogil:
    """The first `bits` bits of a byte."""
    return <uint8_t>(0xFF00 >> bits)


cdef bint _holds(const PrefixRule *rule, const unsigned char *address) noexcept nogil:
    cdef uint32_t whole = rule.bits >> 3
    cdef uint8_t rest = rule.bits & 7
    if memcmp(address, rule.source, whole) != 0:
        return False
    return rest == 0 or (address[whole] ^ rule.source[whole]) & _mask(rest) == 0


cdef void _move(const PrefixRule *rule, unsigned char *address) noexcept nogil:
    cdef uint32_t whole = rule.bits >> 3
    cdef uint8_t rest = rule.bits & 7
    memcpy(address, rule.target, whole)
    if rest:
        address[whole] = (rule.target[whole] & _mask(rest)) | (address[whole] & ~_mask(rest))


cdef bint _by_prefix(const AddressRules *rules, uint8_t version,
                     unsigned char *address) noexcept nogil:
    cdef uint32_t i
    for i in range(rules.count):
        if rules.prefixes[i].version == version and _holds(&rules.prefixes[i], address):
            _move(&rules.prefixes[i], address)
            return True
    return False


# -- permutations --------------------------------------------------------------------------


cdef void _permute(const AddressRules *rules, uint64_t *high, uint64_t *low,
                   uint32_t half_bits, uint64_t tweak) noexcept nogil:
    """Permute all pairs of halves of so many bits each."""
    cdef uint64_t mask = (<uint64_t>1 << half_bits) - 1
    cdef uint64_t swap
    cdef uint32_t i
    for i in range(ROUNDS):
        swap = low[0]
        low[0] = high[0] ^ (mix64(mix64(low[0] ^ rules.keys[i]) + tweak) & mask)
        high[0] = swap


cdef inline bint _ordinary_ipv4(uint32_t address) noexcept nogil:
    cdef uint32_t first = address >> 24
    return 0 < first < 224 and first != 127 and address >> 16 != 0xA9FE


cdef void _random_ipv4(const AddressRules *rules, unsigned char *address) noexcept nogil:
    cdef uint32_t value = (<uint32_t>address[0] << 24 | <uint32_t>address[1] << 16
                           | <uint32_t>address[2] << 8 | address[3])
    cdef uint64_t high, low
    if not _ordinary_ipv4(value):
        return
    while True:
        high = value >> 16
        low = value & 0xFFFF
        _permute(rules, &high, &low, 16, TWEAK_IPV4)
        value = <uint32_t>(high << 16 | low)
        if _ordinary_ipv4(value):
            break
    address[0] = value >> 24
    address[1] = (value >> 16) & 0xFF
    address[2] = (value >> 8) & 0xFF
    address[3] = value & 0xFF


cdef inline uint64_t _load64(const unsigned char *p) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t i
    for i in range(8):
        value = value << 8 | p[i]
    return value


cdef inline void _store64(unsigned char *p, uint64_t value) noexcept nogil:
    cdef uint32_t i
    for i in range(8):
        p[i] = (value >> (56 - 8 * i)) & 0xFF


cdef inline bint _link_local(uint64_t top) noexcept nogil:
    return top >> 54 == 0xFE80 >> 6


cdef inline bint _ordinary_ipv6(uint64_t top, uint64_t bottom) noexcept nogil:
    # Link-local ones are ordinary among themselves.
    return top >> 56 != 0xFF and (top != 0 or bottom > 1) and not _link_local(top)


cdef void _random_ipv6(const AddressRules *rules, unsigned char *address) noexcept nogil:
    cdef uint64_t top = _load64(address), bottom = _load64(address + 8)
    cdef uint64_t first = top >> 56, high, low
    if _link_local(top):
        high = bottom >> 32
        low = <uint32_t>bottom
        _permute(rules, &high, &low, 32, TWEAK_LINK_LOCAL)
        _store64(address + 8, high << 32 | low)
        return
    if not _ordinary_ipv6(top, bottom):
        return
    while True:
        # 120 bits: all but the first byte.
        high = (top << 8 >> 4) | bottom >> 60
        low = bottom & ((<uint64_t>1 << 60) - 1)
        _permute(rules, &high, &low, 60, first)
        top = first << 56 | high >> 4
        bottom = high << 60 | low
        if _ordinary_ipv6(top, bottom):
            break
    _store64(address, top)
    _store64(address + 8, bottom)


# -- the map -------------------------------------------------------------------------------


cdef bint map_ipv4(const AddressRules *rules, unsigned char *address) noexcept nogil:
    """Replace 4 bytes by their successor; False when no rule is for them."""
    if _by_prefix(rules, 4, address):
        return True
    if rules.random:
        _random_ipv4(rules, address)
    return rules.random


cdef bint map_ipv6(const AddressRules *rules, unsigned char *address) noexcept nogil:
    """Replace 16 bytes by their successor; False when no rule is for them."""
    if _by_prefix(rules, 6, address):
        return True
    if rules.random:
        _random_ipv6(rules, address)
    return rules.random


cdef class AddressMap:
    """The successor of every address; index it with 4 or 16 bytes.

    Parameters
    ----------
    maps : sequence of pairs of ipaddress networks
        From and to, of one family and length, the longest first.
    seed : int or None
        Randomise what no prefix holds.
    """

    def __cinit__(self, maps=(), seed=None):
        cdef PrefixRule *rule
        cdef uint64_t key
        cdef uint32_t i
        listed = list(maps)
        self.rules.prefixes = <PrefixRule *>calloc(len(listed) + 1, sizeof(PrefixRule))
        if self.rules.prefixes == NULL:
            raise MemoryError
        for source, target in listed:
            if source.version != target.version or source.prefixlen != target.prefixlen:
                raise ValueError("both prefixes must be of one family and length")
            rule = &self.rules.prefixes[self.rules.count]
            rule.version = source.version
            rule.bits = source.prefixlen
            _copy(rule.source, source.network_address.packed)
            _copy(rule.target, target.network_address.packed)
            self.rules.count += 1
        if seed is not None:
            self.rules.random = True
            key = seed
            for i in range(ROUNDS):
                # SplitMix64's sequence.
                key += <uint64_t>0x9E3779B97F4A7C15
                self.rules.keys[i] = mix64(key)

    def __getitem__(self, bytes address not None):
        cdef unsigned char[16] value
        if len(address) not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        _copy(value, address)
        if len(address) == 4:
            map_ipv4(&self.rules, value)
        else:
            map_ipv6(&self.rules, value)
        return value[:len(address)]

    def __dealloc__(self):
        free(self.rules.prefixes)


cdef void _copy(unsigned char *to, bytes address):
    memcpy(to, <const unsigned char *>address, len(address))
