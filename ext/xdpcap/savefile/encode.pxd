from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset


cdef enum SavefileFormat:
    FORMAT_PCAPNG = 0
    FORMAT_PCAP = 1


# Fixed lengths of a record, bytes (pcapng draft section 4.3, pcap draft section 5).
cdef enum:
    EPB_HEADER = 28
    EPB_OPTIONS = 32        # epb_flags, epb_queue, epb_packetid, opt_endofopt
    EPB_DROPCOUNT = 12      # epb_dropcount, only after a loss
    EPB_HASH = 12           # epb_hash, only where the packet has one
    EPB_VERDICT = 16        # epb_verdict, only where a program was watched deciding
    EPB_TRAILER = 4
    EPB_TYPE = 6
    EPB_INBOUND = 1         # epb_flags, bits 0 and 1
    EPB_VERDICT_XDP = 2     # epb_verdict, the octet of Linux_eBPF_XDP
    PCAP_HEADER = 16
    MAC_BYTES = 12          # both addresses: behind them a VLAN tag has its place
    TAG_BYTES = 4


cdef struct Encoder:
    SavefileFormat format
    uint32_t snaplen        # bytes; 0xFFFFFFFF keeps whole packets
    uint32_t interface_id
    uint32_t queue
    uint64_t packet_id      # of the next packet: interface (6 bits), queue (10), a count (48)
    uint64_t drop_count     # packets lost since the last record
    int hash_algorithm      # of every hash: the octet of epb_hash; -1 for no hashes
    bint has_hash           # the next record is to have this hash
    uint32_t hash
    bint has_verdict        # ... and this verdict, an enum xdp_action
    uint64_t verdict


# The longest a record of caplen bytes can become, without a hash and a verdict.
cdef inline uint64_t record_bound(const Encoder *e, uint32_t caplen) noexcept nogil:
    if e.format == FORMAT_PCAP:
        return PCAP_HEADER + caplen
    return EPB_HEADER + ((caplen + 3) & ~<uint32_t>3) + EPB_OPTIONS + EPB_DROPCOUNT + EPB_TRAILER


cdef inline void put32(unsigned char *out, uint32_t value) noexcept nogil:
    memcpy(out, &value, 4)


cdef inline void put_option(unsigned char *out, uint16_t code, uint16_t size) noexcept nogil:
    put32(out, <uint32_t>code | (<uint32_t>size << 16))


cdef void init_encoder(Encoder *e, SavefileFormat format, uint32_t snaplen,
                       uint32_t interface_id, uint32_t queue, int hash_algorithm=*)


# What a hash adds to a record: nothing to a format that has no place for it.
cdef inline uint32_t hash_bound(const Encoder *e) noexcept nogil:
    return EPB_HASH if e.hash_algorithm >= 0 else 0


# The next record is to have this hash, if records have any.
cdef inline void encode_hash(Encoder *e, uint32_t value) noexcept nogil:
    e.hash = value
    e.has_hash = e.hash_algorithm >= 0


# What a verdict adds to a record: nothing to a format that has no place for it.
cdef inline uint32_t verdict_bound(const Encoder *e) noexcept nogil:
    return EPB_VERDICT if e.format == FORMAT_PCAPNG else 0


# The next record is to have this verdict, if its format has a place for it.
cdef inline void encode_verdict(Encoder *e, uint64_t verdict) noexcept nogil:
    e.verdict = verdict
    e.has_verdict = e.format == FORMAT_PCAPNG


# A number in the file's byte order behind an octet, so that it is not aligned.
cdef inline void put_verdict(unsigned char *out, uint64_t verdict) noexcept nogil:
    put_option(out, 7, 9)               # epb_verdict
    out[4] = EPB_VERDICT_XDP
    memcpy(out + 5, &verdict, 8)
    memset(out + 13, 0, 3)


# Octets, the first of which stands first on paper: not a number in the file's byte order.
cdef inline void put_hash(unsigned char *out, unsigned char algorithm, uint32_t value) noexcept nogil:
    put_option(out, 3, 5)               # epb_hash
    out[4] = algorithm
    out[5] = <unsigned char>(value >> 24)
    out[6] = <unsigned char>(value >> 16)
    out[7] = <unsigned char>(value >> 8)
    put32(out + 8, value & 0xFF)        # the last octet and the padding


# Writes the packet's first bytes with a VLAN tag put back behind the addresses; returns how
# many of `caplen` are written, and leaves in `taken` how many of the packet's own.
cdef inline uint32_t put_tagged(unsigned char *out, const unsigned char *packet, uint32_t tag,
                                uint32_t caplen, uint32_t *taken) noexcept nogil:
    cdef unsigned char[MAC_BYTES + TAG_BYTES] head
    cdef uint32_t size = min(caplen, <uint32_t>(MAC_BYTES + TAG_BYTES))
    memcpy(head, packet, MAC_BYTES)
    head[12] = <unsigned char>(tag >> 24)
    head[13] = <unsigned char>(tag >> 16)
    head[14] = <unsigned char>(tag >> 8)
    head[15] = <unsigned char>tag
    memcpy(out, head, size)
    taken[0] = min(caplen, <uint32_t>MAC_BYTES)
    return size


# Writes what stands before the packet's bytes; returns its length.  The caller copies
# caplen bytes after it and calls encode_tail().
cdef inline uint32_t encode_head(Encoder *e, unsigned char *out, uint64_t ts_ns,
                                 uint32_t caplen, uint32_t origlen) noexcept nogil:
    cdef uint32_t total
    if e.format == FORMAT_PCAP:
        put32(out, <uint32_t>(ts_ns // 1000000000))
        put32(out + 4, <uint32_t>(ts_ns % 1000000000))
        put32(out + 8, caplen)
        put32(out + 12, origlen)
        return PCAP_HEADER
    total = EPB_HEADER + ((caplen + 3) & ~<uint32_t>3) + EPB_OPTIONS + EPB_TRAILER
    if e.drop_count:
        total += EPB_DROPCOUNT
    if e.has_hash:
        total += EPB_HASH
    if e.has_verdict:
        total += EPB_VERDICT
    put32(out, EPB_TYPE)
    put32(out + 4, total)
    put32(out + 8, e.interface_id)
    put32(out + 12, <uint32_t>(ts_ns >> 32))
    put32(out + 16, <uint32_t>ts_ns)
    put32(out + 20, caplen)
    put32(out + 24, origlen)
    return EPB_HEADER


# Writes what stands after the packet's bytes (padding, options, length); `record` is
# the record's start.  Returns the record's whole length.
cdef inline uint32_t encode_tail(Encoder *e, unsigned char *record, uint32_t caplen) noexcept nogil:
    cdef unsigned char *out
    cdef uint32_t padded, total
    if e.format == FORMAT_PCAP:
        return PCAP_HEADER + caplen
    padded = (caplen + 3) & ~<uint32_t>3
    out = record + EPB_HEADER + caplen
    if padded != caplen:
        memset(out, 0, padded - caplen)
        out += padded - caplen
    put_option(out, 2, 4)               # epb_flags
    put32(out + 4, EPB_INBOUND)
    put_option(out + 8, 6, 4)           # epb_queue
    put32(out + 12, e.queue)
    put_option(out + 16, 5, 8)          # epb_packetid
    memcpy(out + 20, &e.packet_id, 8)
    out += 28
    if e.drop_count:
        put_option(out, 4, 8)           # epb_dropcount
        memcpy(out + 4, &e.drop_count, 8)
        out += EPB_DROPCOUNT
        e.drop_count = 0
    if e.has_hash:
        put_hash(out, <unsigned char>e.hash_algorithm, e.hash)
        out += EPB_HASH
        e.has_hash = False
    if e.has_verdict:
        put_verdict(out, e.verdict)
        out += EPB_VERDICT
        e.has_verdict = False
    put32(out, 0)                       # opt_endofopt
    e.packet_id += 1
    total = <uint32_t>(out - record) + 4 + EPB_TRAILER
    put32(out + 4, total)
    return total
