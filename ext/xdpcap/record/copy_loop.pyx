"""Mirror mode's part of the hot loop: copies from a ring into blocks.

Purpose: what `_loop` does for frames of a socket, for copies in rings.
Owner: one worker thread a CaptureState.
Frees: nothing.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from xdpcap.record.limits cimport may_record
from xdpcap.savefile.blocks cimport sink_commit, sink_failed
from xdpcap.rings.copy_rings cimport (
    CopyRings,
    find_copy,
    newly_lost,
    release_copies,
    take_copy,
    xdpcap_copy,
)
from xdpcap.record.packet_meta cimport XDPCAP_META_VERDICT, meta_growth, take_extras
from xdpcap.savefile.encode cimport (
    TAG_BYTES,
    encode_head,
    encode_tail,
    encode_verdict,
    put_tagged,
    record_bound,
)
from xdpcap.host.stage_times cimport *
from xdpcap.record.state cimport *


cdef uint32_t _encode_tagged(CaptureState *c, const xdpcap_copy *head, const unsigned char *packet,
                             unsigned char *out, uint64_t ts_ns, uint32_t tag) noexcept nogil:
    """The head and the bytes of a packet whose VLAN tag goes back into it; its caplen.

    The tag counts for the snapshot length and is there on the wire.
    """
    cdef uint32_t caplen = min(head.caplen + TAG_BYTES, c.encoder.snaplen), taken = 0, done
    out += encode_head(&c.encoder, out, ts_ns, caplen, head.meta.origlen + TAG_BYTES)
    done = put_tagged(out, packet, tag, caplen, &taken)
    memcpy(out + done, packet + taken, caplen - done)
    return caplen


cdef inline Reason _record(CaptureState *c, const xdpcap_copy *head,
                           const unsigned char *packet) noexcept nogil:
    """Encode one copied packet into the open block."""
    cdef uint32_t caplen = min(head.caplen, c.encoder.snaplen), tag = 0, before
    cdef uint64_t ts_ns
    cdef unsigned char *out
    cdef Reason reason
    if sink_failed(c.sink):
        c.sink.write_dropped += 1
    else:
        reason = may_record(c, record_bound(&c.encoder, caplen) + meta_growth(c, &head.meta))
        if reason != RUN_ON:
            return reason
        # The program's own count, so the loss is told by the very packet that follows it.
        c.encoder.drop_count += newly_lost(c.mirror, head)
        if head.meta.flags & XDPCAP_META_VERDICT:
            encode_verdict(&c.encoder, head.verdict)
        ts_ns = <uint64_t>(<int64_t>head.meta.ts_ns + take_extras(c, &head.meta, &tag))
        out = c.sink.out
        if tag:
            caplen = _encode_tagged(c, head, packet, out, ts_ns, tag)
        else:
            before = encode_head(&c.encoder, out, ts_ns, caplen, head.meta.origlen)
            memcpy(out + before, packet, caplen)
        sink_commit(c.sink, encode_tail(&c.encoder, out, caplen), caplen)
        if c.first_ts_ns == 0:
            c.first_ts_ns = ts_ns
        c.last_ts_ns = ts_ns
    c.received += 1
    c.received_bytes += head.meta.origlen
    return RUN_ON


cdef Reason mirror_batch(CaptureState *c, uint32_t want, uint32_t *taken) noexcept nogil:
    """Record what is in the rings, up to `want` packets."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    cdef StageClocks *clocks = c.sink.clocks
    cdef uint32_t done = 0
    cdef Reason reason = RUN_ON
    if clocks != NULL:
        stage_ends(clocks, STAGE_PEEK)
    while done < want and find_copy(c.mirror, &head, &packet):
        reason = _record(c, &head, packet)
        if reason != RUN_ON:
            break
        take_copy(c.mirror)
        done += 1
    if clocks != NULL:
        stage_ends(clocks, STAGE_ENCODE)
    # Once a batch: the kernel's side reads this word for every packet.
    release_copies(c.mirror)
    taken[0] = done
    return reason


cdef void mirror_discard(CaptureState *c) noexcept nogil:
    """Empty the rings after a limit was reached."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    while find_copy(c.mirror, &head, &packet):
        take_copy(c.mirror)
        c.beyond_limit += 1
    release_copies(c.mirror)


cdef void mirror_abandon(CaptureState *c) noexcept nogil:
    """Empty the rings when no file takes their packets any more."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    while find_copy(c.mirror, &head, &packet):
        take_copy(c.mirror)
        c.received += 1
        c.received_bytes += head.meta.origlen
        c.sink.write_dropped += 1
    release_copies(c.mirror)
