"""What the program's header before a packet says: its time, its length, a hash, a VLAN tag.

Purpose: the one place that knows how `struct xdpcap_meta` is believed and used up.
Owner: the worker that owns the CaptureState.
Frees: nothing.

Source relied on: bpf/xdpcap_abi.h; Documentation/networking/xdp-rx-metadata.rst.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from xdpcap.clib.abi cimport (
    XDPCAP_META_DEVICE_TS,
    XDPCAP_META_HASH,
    XDPCAP_META_MAGIC,
    XDPCAP_META_ORIGLEN,
    XDPCAP_META_TS,
    XDPCAP_META_VERDICT,
    XDPCAP_META_VLAN,
    xdpcap_meta,
)
from xdpcap.clib.posix cimport CLOCK_REALTIME
from xdpcap.host.clocks cimport clock_ns
from xdpcap.savefile.encode cimport TAG_BYTES, encode_hash, hash_bound, verdict_bound
from xdpcap.record.loop cimport CaptureState


cdef enum:
    META_BYTES = 32
    # What any program of ours says of every packet.
    META_USUAL = XDPCAP_META_TS | XDPCAP_META_ORIGLEN


cdef inline xdpcap_meta *meta_before(const CaptureState *c, uint64_t addr) noexcept nogil:
    """The header before the packet at `addr`; NULL where the program has put none there."""
    cdef xdpcap_meta *meta = <xdpcap_meta *>(c.area + addr - META_BYTES)
    return meta if meta.magic == XDPCAP_META_MAGIC else NULL


cdef inline uint32_t meta_growth(const CaptureState *c, const xdpcap_meta *meta) noexcept nogil:
    """Bytes that a hash, a VLAN tag and a verdict will add to the packet's record."""
    if meta == NULL or not meta.flags & ~<uint32_t>META_USUAL:
        return 0
    return ((hash_bound(&c.encoder) if meta.flags & XDPCAP_META_HASH else 0)
            + (TAG_BYTES if meta.flags & XDPCAP_META_VLAN else 0)
            + (verdict_bound(&c.encoder) if meta.flags & XDPCAP_META_VERDICT else 0))


cdef inline int64_t take_extras(CaptureState *c, const xdpcap_meta *meta, uint32_t *tag) noexcept nogil:
    """What only some programs say: hash, VLAN tag, whose time; returns what to add to that."""
    if meta.flags & XDPCAP_META_HASH:
        encode_hash(&c.encoder, meta.hash)
    if meta.flags & XDPCAP_META_VLAN:
        tag[0] = <uint32_t>meta.vlan_proto << 16 | meta.vlan_tci
    if meta.flags & XDPCAP_META_DEVICE_TS:
        c.device_stamped += 1
        return c.device_offset_ns
    return c.clock_offset_ns


cdef inline uint64_t take_meta(CaptureState *c, xdpcap_meta *meta, uint32_t *origlen,
                               uint32_t *tag) noexcept nogil:
    """The packet's time in the file's clock and its length on the wire, from its metadata.

    `tag` gets the VLAN tag that the device took off the packet, where it took one.
    The mark is wiped, because copy mode reuses the memory and a later packet may come
    without metadata.
    """
    cdef int64_t offset_ns = c.clock_offset_ns
    if meta == NULL:
        c.no_meta += 1
        return <uint64_t>(<int64_t>clock_ns(CLOCK_REALTIME) + c.file_ahead_ns)
    meta.magic = 0
    if meta.flags & XDPCAP_META_ORIGLEN and meta.origlen > origlen[0]:
        origlen[0] = meta.origlen
    if meta.flags & ~<uint32_t>META_USUAL:
        offset_ns = take_extras(c, meta, tag)
    if meta.flags & XDPCAP_META_TS:
        return <uint64_t>(<int64_t>meta.ts_ns + offset_ns)
    return <uint64_t>(<int64_t>clock_ns(CLOCK_REALTIME) + c.file_ahead_ns)
