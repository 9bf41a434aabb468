from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    # The finaliser of SplitMix64: every bit of the input reaches every bit of the hash.
    x ^= x >> 30
    x *= <uint64_t>0xBF58476D1CE4E5B9
    x ^= x >> 27
    x *= <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


# Who talks to whom in an IP packet.  An IPv4 address is 4 bytes, the rest of them 0.
cdef struct FlowEnds:
    unsigned char[16] source
    unsigned char[16] target
    uint16_t source_port        # with has_ports
    uint16_t target_port
    uint32_t transport          # offset of the transport header in the frame, with has_ports
    uint8_t version             # 4 or 6
    uint8_t protocol            # 0 where the extension headers end too early
    bint has_ports


cdef uint32_t network_header(const unsigned char *data, uint32_t length,
                             uint16_t *kind) noexcept nogil
cdef bint flow_ends(const unsigned char *data, uint32_t length, FlowEnds *ends) noexcept nogil
cdef uint32_t flow_hash(const unsigned char *data, uint32_t length) noexcept nogil
