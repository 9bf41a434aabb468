"""The hot loop: packets from a queue's ring into blocks.

Purpose: take frames off the RX ring, or copies out of the rings of mirror mode, encode each packet
once into the sink's open block, and give the room back to the kernel.
Owner: one worker thread per CaptureState.  The two flags may be set and the counters
read from any thread.
Frees: nothing; `record.capture` owns the struct and holds the socket and the sink.

Source relied on: Documentation/networking/af_xdp.rst; bpf/xdpcap_abi.h.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from xdpcap.clib.abi cimport XDPCAP_META_VERDICT, xdpcap_copy, xdpcap_meta
from xdpcap.clib.atomic cimport (
    __ATOMIC_RELAXED,
    atomic_load_i64,
    atomic_load_int,
    atomic_store_int,
    atomic_sub_i64,
)
from xdpcap.clib.posix cimport CLOCK_MONOTONIC
from xdpcap.clib.libxdp cimport (
    XDP_PKT_CONTD,
    xdp_desc,
    xsk_ring_cons__cancel,
    xsk_ring_cons__peek,
    xsk_ring_cons__release,
    xsk_ring_cons__rx_desc,
    xsk_ring_prod__fill_addr,
    xsk_ring_prod__reserve,
    xsk_ring_prod__submit,
)
from xdpcap.host.clocks cimport clock_ns
from xdpcap.host.stage_times cimport *
from xdpcap.record.packet_meta cimport (
    META_BYTES,
    meta_before,
    meta_growth,
    take_extras,
    take_meta,
)
from xdpcap.record.waiting cimport periodic, wait_for_packets, waiting
from xdpcap.rings.copy_rings cimport (
    find_copy,
    newly_lost,
    release_copies,
    take_copy,
)
from xdpcap.savefile.blocks cimport (
    Sink,
    sink_commit,
    sink_failed,
    sink_flush,
    sink_reap,
    sink_room,
    sink_wait,
)
from xdpcap.savefile.encode cimport (
    TAG_BYTES,
    encode_head,
    encode_tail,
    encode_verdict,
    put_tagged,
    record_bound,
)


cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *address) nogil

cdef enum:
    # How long a stop waits for a disk that takes no block.
    STOP_WAIT_NS = 1500000000


# ---------------------------------------------------------------- one packet

cdef inline Reason _may_record(CaptureState *c, uint64_t bound) noexcept nogil:
    """Whether the next record, of at most `bound` bytes, can go into the current file now."""
    cdef Sink *s = c.sink
    if sink_room(s) < bound:
        return RUN_NO_ROOM
    # A file takes one packet at least, or a small limit would rotate for ever.
    if s.file.packets:
        if c.rotate_packets and s.file.packets >= c.rotate_packets:
            return RUN_ROTATE
        if c.rotate_size and s.file.size + bound > c.rotate_size:
            return RUN_ROTATE
    if c.budget != NULL:
        if (atomic_sub_i64(&c.budget.packets, 1, __ATOMIC_RELAXED) < 0
                or atomic_sub_i64(&c.budget.bytes, <int64_t>bound, __ATOMIC_RELAXED) < 0):
            return RUN_LIMIT
    return RUN_ON


cdef inline uint32_t _encode_tagged(CaptureState *c, const unsigned char *packet,
                                    unsigned char **out, uint64_t ts_ns, uint32_t caplen,
                                    uint32_t origlen, uint32_t tag,
                                    uint32_t *taken) noexcept nogil:
    """The head of a record, and the start of a packet with its VLAN tag put back into it.

    The tag counts for the snapshot length and is there on the wire.  Returns how many of the
    record's `caplen` bytes are there; `taken` of the packet are in them, and `out` is behind them.
    """
    cdef uint32_t done
    out[0] += encode_head(&c.encoder, out[0], ts_ns, caplen, origlen + TAG_BYTES)
    done = put_tagged(out[0], packet, tag, caplen, taken)
    out[0] += done
    return done


cdef inline void _commit(CaptureState *c, unsigned char *record, uint32_t caplen,
                         uint64_t ts_ns) noexcept nogil:
    """The record at `record` has its head and its bytes."""
    sink_commit(c.sink, encode_tail(&c.encoder, record, caplen), caplen)
    if c.first_ts_ns == 0:
        c.first_ts_ns = ts_ns
    c.last_ts_ns = ts_ns


# ---------------------------------------------------------------- one packet in frames

cdef inline uint32_t _chain(const CaptureState *c, uint32_t index, uint32_t available,
                            uint32_t *length) noexcept nogil:
    """Descriptors of the packet at `index`, 0 when its end is not there yet."""
    cdef const xdp_desc *desc
    cdef uint32_t i
    length[0] = 0
    for i in range(available):
        desc = xsk_ring_cons__rx_desc(c.rx, index + i)
        length[0] += desc.len
        if not desc.options & XDP_PKT_CONTD:
            return i + 1
    return 0


cdef inline void _copy(const CaptureState *c, uint32_t index, uint32_t frames,
                       unsigned char *out, uint32_t caplen, uint32_t skip) noexcept nogil:
    """`caplen` bytes of a packet, without its first `skip`, which are in its first frame."""
    cdef const xdp_desc *desc
    cdef uint32_t i, part
    for i in range(frames):
        desc = xsk_ring_cons__rx_desc(c.rx, index + i)
        part = min(desc.len - skip, caplen)
        memcpy(out, c.area + desc.addr + skip, part)
        out += part
        caplen -= part
        skip = 0


cdef inline Reason _record_frames(CaptureState *c, uint32_t index, uint32_t frames,
                                  uint32_t length) noexcept nogil:
    """Encode one packet of `frames` descriptors into the open block."""
    cdef const xdp_desc *desc = xsk_ring_cons__rx_desc(c.rx, index)
    cdef uint32_t caplen = length if length < c.encoder.snaplen else c.encoder.snaplen
    cdef uint32_t origlen = length, tag = 0, taken = 0, done
    cdef xdpcap_meta *meta
    cdef uint64_t ts_ns
    cdef unsigned char *out
    cdef Reason reason
    if sink_failed(c.sink):
        c.sink.write_dropped += 1
    else:
        meta = meta_before(c, desc.addr)
        reason = _may_record(c, record_bound(&c.encoder, caplen) + meta_growth(c, meta))
        if reason != RUN_ON:
            return reason
        ts_ns = take_meta(c, meta, &origlen, &tag)
        out = c.sink.out
        if tag:
            caplen = min(length + TAG_BYTES, c.encoder.snaplen)
            done = _encode_tagged(c, c.area + desc.addr, &out, ts_ns, caplen, origlen, tag, &taken)
            _copy(c, index, frames, out, caplen - done, taken)
        else:
            out += encode_head(&c.encoder, out, ts_ns, caplen, origlen)
            if frames == 1:
                memcpy(out, c.area + desc.addr, caplen)
            else:
                _copy(c, index, frames, out, caplen, 0)
        _commit(c, c.sink.out, caplen, ts_ns)
    c.received += 1
    c.received_bytes += length
    return RUN_ON


# ---------------------------------------------------------------- a batch of frames

cdef void _give_back(CaptureState *c, uint32_t index, uint32_t count) noexcept nogil:
    """Frames of `count` descriptors to the fill ring, descriptors to the kernel."""
    cdef uint32_t fill_index = 0, i
    # No more frames circulate than the fill ring has entries, so there is room, but the
    # kernel may show it a moment late: xsk_flush() (net/xdp/xsk.c) publishes what it put
    # into the RX ring before what it took from the fill ring.
    while xsk_ring_prod__reserve(c.fill, count, &fill_index) != count:
        pass
    for i in range(count):
        xsk_ring_prod__fill_addr(c.fill, fill_index + i)[0] = (
            xsk_ring_cons__rx_desc(c.rx, index + i).addr & c.frame_mask)
    # In this order a kernel that has a frame has room for it in the RX ring, too.  A ring
    # that fills up within a packet of several frames would be left with the first of them,
    # unfinished (xsk_rcv_zc()).
    xsk_ring_cons__release(c.rx, count)
    xsk_ring_prod__submit(c.fill, count)


cdef Reason _frame_batch(CaptureState *c, uint32_t want, uint32_t *taken) noexcept nogil:
    """Record what is in the RX ring, up to `want` descriptors."""
    cdef uint32_t index = 0, length = 0, done = 0, frames, count
    cdef const xdp_desc *ahead
    cdef StageClocks *clocks = c.sink.clocks
    cdef Reason reason = RUN_ON
    count = xsk_ring_cons__peek(c.rx, want, &index)
    if clocks != NULL:
        stage_ends(clocks, STAGE_PEEK)
    while done < count:
        # Fetch the lines of a packet some way ahead: they are in another core's cache.
        if done + 4 < count:
            ahead = xsk_ring_cons__rx_desc(c.rx, index + done + 4)
            prefetch(c.area + ahead.addr - META_BYTES)
            prefetch(c.area + ahead.addr)
        frames = _chain(c, index + done, count - done, &length)
        if frames == 0:
            reason = RUN_PARTIAL
            break
        reason = _record_frames(c, index + done, frames, length)
        if reason != RUN_ON:
            break
        done += frames
    if clocks != NULL:
        stage_ends(clocks, STAGE_ENCODE)
    if done < count:
        xsk_ring_cons__cancel(c.rx, count - done)
    if done:
        _give_back(c, index, done)
    taken[0] = done
    return reason


# ---------------------------------------------------------------- copies (mirror mode)

cdef inline Reason _record_copy(CaptureState *c, const xdpcap_copy *head,
                                const unsigned char *packet) noexcept nogil:
    """Encode one copied packet into the open block."""
    cdef uint32_t caplen = min(head.caplen, c.encoder.snaplen), tag = 0, taken = 0, done
    cdef uint64_t ts_ns
    cdef unsigned char *out
    cdef Reason reason
    if sink_failed(c.sink):
        c.sink.write_dropped += 1
    else:
        reason = _may_record(c, record_bound(&c.encoder, caplen) + meta_growth(c, &head.meta))
        if reason != RUN_ON:
            return reason
        # The program's own count, so the loss is told by the very packet that follows it.
        c.encoder.drop_count += newly_lost(c.mirror, head)
        if head.meta.flags & XDPCAP_META_VERDICT:
            encode_verdict(&c.encoder, head.verdict)
        ts_ns = <uint64_t>(<int64_t>head.meta.ts_ns + take_extras(c, &head.meta, &tag))
        out = c.sink.out
        if tag:
            caplen = min(head.caplen + TAG_BYTES, c.encoder.snaplen)
            done = _encode_tagged(c, packet, &out, ts_ns, caplen, head.meta.origlen, tag, &taken)
            memcpy(out, packet + taken, caplen - done)
        else:
            out += encode_head(&c.encoder, out, ts_ns, caplen, head.meta.origlen)
            memcpy(out, packet, caplen)
        _commit(c, c.sink.out, caplen, ts_ns)
    c.received += 1
    c.received_bytes += head.meta.origlen
    return RUN_ON


cdef Reason _copy_batch(CaptureState *c, uint32_t want, uint32_t *taken) noexcept nogil:
    """Record what is in the rings, up to `want` packets."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    cdef StageClocks *clocks = c.sink.clocks
    cdef uint32_t done = 0
    cdef Reason reason = RUN_ON
    if clocks != NULL:
        stage_ends(clocks, STAGE_PEEK)
    while done < want and find_copy(c.mirror, &head, &packet):
        reason = _record_copy(c, &head, packet)
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


cdef void _discard_copies(CaptureState *c) noexcept nogil:
    """Empty the rings after a limit was reached."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    while find_copy(c.mirror, &head, &packet):
        take_copy(c.mirror)
        c.beyond_limit += 1
    release_copies(c.mirror)


cdef void _abandon_copies(CaptureState *c) noexcept nogil:
    """Empty the rings when no file takes their packets any more."""
    cdef xdpcap_copy head
    cdef const unsigned char *packet = NULL
    while find_copy(c.mirror, &head, &packet):
        take_copy(c.mirror)
        c.received += 1
        c.received_bytes += head.meta.origlen
        c.sink.write_dropped += 1
    release_copies(c.mirror)


# ---------------------------------------------------------------- the end of a recording

cdef void discard_all(CaptureState *c) noexcept nogil:
    """Empty the RX ring after a limit was reached."""
    cdef uint32_t index = 0, count, i
    if c.mirror != NULL:
        _discard_copies(c)
        return
    while True:
        count = xsk_ring_cons__peek(c.rx, c.batch, &index)
        if count == 0:
            return
        for i in range(count):
            if not xsk_ring_cons__rx_desc(c.rx, index + i).options & XDP_PKT_CONTD:
                c.beyond_limit += 1
        _give_back(c, index, count)


cdef void abandon_all(CaptureState *c) noexcept nogil:
    """Empty the RX ring when no file takes its packets any more."""
    cdef uint32_t index = 0, count, i
    if c.mirror != NULL:
        _abandon_copies(c)
        return
    while True:
        count = xsk_ring_cons__peek(c.rx, c.batch, &index)
        if count == 0:
            return
        for i in range(count):
            c.received_bytes += xsk_ring_cons__rx_desc(c.rx, index + i).len
            if not xsk_ring_cons__rx_desc(c.rx, index + i).options & XDP_PKT_CONTD:
                c.received += 1
                c.sink.write_dropped += 1
        _give_back(c, index, count)


# ---------------------------------------------------------------- the loop

cdef uint32_t _up_to_a_loss(CaptureState *c, uint32_t want) noexcept nogil:
    """How many of `want` descriptors to take at most, so that a loss gets its place.

    Packets are lost when the ring is full of earlier ones: the record that tells of
    the loss is the first after those.
    """
    cdef uint32_t before = c.drops_at - c.rx.cached_cons
    # A packet longer than a batch must come through whatever was lost.
    if before == 0 or before > c.rx.size or want > c.batch:
        c.encoder.drop_count += c.drops_ahead
        c.drops_ahead = 0
        return want
    return min(want, before)


cdef Reason _no_room(CaptureState *c, uint64_t now) noexcept nogil:
    """Every block is in flight: the disk is the bottleneck.  Frames stay in the ring."""
    if c.stop_seen_ns and now - c.stop_seen_ns > STOP_WAIT_NS:
        return RUN_STOPPED
    if c.sink.clocks != NULL:
        wait_begins(c.sink.clocks, STAGE_PEEK)
    sink_wait(c.sink, 10000)
    if c.sink.clocks != NULL:
        wait_ends(c.sink.clocks, STAGE_DISK)
    return RUN_ON


cdef Reason _between(CaptureState *c, uint64_t now) noexcept nogil:
    """What is looked at between two batches."""
    cdef Sink *s = c.sink
    sink_reap(s)
    if s.unflushed_since_ns and now - s.unflushed_since_ns >= c.flush_interval_ns:
        if s.clocks != NULL:
            write_begins(s.clocks, STAGE_PEEK)
        sink_flush(s)
        if s.clocks != NULL:
            write_ends(s.clocks)
    if s.some_file_done:
        return RUN_FILE_DONE
    if sink_failed(s):
        # Told once: until the stop comes the loop goes on and counts what it drops.
        if not c.failure_told:
            c.failure_told = True
            return RUN_WRITE_FAILED if s.has_file else RUN_NO_FILE
    else:
        c.failure_told = False
    if c.budget != NULL and (atomic_load_i64(&c.budget.packets, __ATOMIC_RELAXED) <= 0
                             or atomic_load_i64(&c.budget.bytes, __ATOMIC_RELAXED) <= 0):
        return RUN_LIMIT
    if atomic_load_int(&c.rotate, __ATOMIC_RELAXED):
        atomic_store_int(&c.rotate, 0, __ATOMIC_RELAXED)
        return RUN_ROTATE
    periodic(c, now)
    return RUN_ON


cdef Reason _run(CaptureState *c) noexcept nogil:
    cdef uint32_t taken = 0, total = 0, want = c.batch
    cdef uint64_t now
    cdef Reason reason
    while True:
        now = clock_ns(CLOCK_MONOTONIC)
        c.sink.now_ns = now
        if c.stop_seen_ns == 0 and atomic_load_int(&c.stop, __ATOMIC_RELAXED):
            c.stop_seen_ns = now
        reason = _between(c, now)
        if reason != RUN_ON:
            return reason
        if c.drops_ahead:
            want = _up_to_a_loss(c, want)
        # A busy ring is emptied before the next pause, batch by batch.
        if c.mirror != NULL:
            reason = _copy_batch(c, want, &taken)
        else:
            reason = _frame_batch(c, want, &taken)
        want = c.batch
        total += taken
        if reason == RUN_NO_ROOM:
            reason = _no_room(c, now)
            if reason != RUN_ON:
                return reason
            continue
        if reason == RUN_PARTIAL and taken == 0 and want < c.rx.size and waiting(c) > want:
            want = c.rx.size
            continue
        if reason == RUN_ROTATE or reason == RUN_LIMIT:
            return reason
        if taken >= c.batch or (reason == RUN_PARTIAL and taken):
            # Cut short within a packet, a batch is full all the same.
            continue
        if c.stop_seen_ns and taken == 0:
            return RUN_STOPPED
        if c.stop_seen_ns == 0:
            wait_for_packets(c, now, total)
        total = 0


cdef Reason run_record(CaptureState *c) noexcept nogil:
    cdef Reason reason
    if c.sink.clocks != NULL:
        clocks_begin(c.sink.clocks)
    reason = _run(c)
    if c.sink.clocks != NULL:
        clocks_end(c.sink.clocks)
    return reason


cdef Reason run_drop(CaptureState *c) noexcept nogil:
    """The limit of what can be recorded: take descriptors, give frames back."""
    cdef uint32_t index = 0, count, total = 0, i
    cdef uint64_t now
    while not atomic_load_int(&c.stop, __ATOMIC_RELAXED):
        now = clock_ns(CLOCK_MONOTONIC)
        count = xsk_ring_cons__peek(c.rx, c.batch, &index)
        total += count
        if count:
            for i in range(count):
                if not xsk_ring_cons__rx_desc(c.rx, index + i).options & XDP_PKT_CONTD:
                    c.received += 1
                c.received_bytes += xsk_ring_cons__rx_desc(c.rx, index + i).len
            _give_back(c, index, count)
        if count >= c.batch:
            continue
        wait_for_packets(c, now, total)
        total = 0
    return RUN_STOPPED
