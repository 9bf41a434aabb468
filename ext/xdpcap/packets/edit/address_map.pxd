from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    ROUNDS = 6


# Addresses in one prefix go to another of the same length.
cdef struct PrefixRule:
    uint8_t version             # 4 or 6
    uint8_t bits
    unsigned char[16] source
    unsigned char[16] target


cdef struct AddressRules:
    PrefixRule *prefixes        # the longest first
    uint32_t count
    bint random                 # what no prefix holds is randomised
    uint64_t[ROUNDS] keys


cdef bint map_ipv4(const AddressRules *rules, unsigned char *address) noexcept nogil
cdef bint map_ipv6(const AddressRules *rules, unsigned char *address) noexcept nogil


cdef class AddressMap:
    cdef AddressRules rules
