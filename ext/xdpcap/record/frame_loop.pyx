"""The hot loop: frames from the RX ring into blocks.

Purpose: take packets off a queue's RX ring, encode them once into the sink's open
block, give the frames back to the fill ring.
Owner: one worker thread a CaptureState.  The two flags may be set and the counters
read from any thread.
Frees: nothing; `_capture` owns the struct, the socket and the sink.

Source relied on: Documentation/networking/af_xdp.rst; bpf/xdpcap_abi.h.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from xdpcap.record.limits cimport may_record
from xdpcap.savefile.blocks cimport (
    Sink,
    sink_commit,
    sink_failed,
    sink_flush,
    sink_reap,
    sink_wait,
)
from xdpcap.record.copy_loop cimport mirror_abandon, mirror_batch, mirror_discard
from xdpcap.record.packet_meta cimport META_BYTES, meta_before, meta_growth, take_meta, xdpcap_meta
from xdpcap.savefile.encode cimport (
    TAG_BYTES,
    encode_head,
    encode_tail,
    put_tagged,
    record_bound,
)
from xdpcap.host.stage_times cimport *
from xdpcap.record.state cimport *
from xdpcap.record.waiting cimport clock_ns, periodic, wait_for_packets, waiting
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


cdef extern from *:
    """
    #include <time.h>
    """
    int CLOCK_MONOTONIC
    void prefetch "__builtin_prefetch"(const void *address) nogil
    int atomic_load_int "__atomic_load_n"(int *p, int order) nogil
    void atomic_store_int "__atomic_store_n"(int *p, int value, int order) nogil
    int64_t atomic_load_i64 "__atomic_load_n"(int64_t *p, int order) nogil
    int __ATOMIC_RELAXED

cdef enum:
    # How long a stop waits for a disk that takes no block.
    STOP_WAIT_NS = 1500000000


# ---------------------------------------------------------------- one packet

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


cdef uint32_t _encode_tagged(CaptureState *c, uint32_t index, uint32_t frames, unsigned char *out,
                             uint64_t ts_ns, uint32_t length, uint32_t origlen,
                             uint32_t tag) noexcept nogil:
    """The head and the bytes of a packet whose VLAN tag goes back into it; its caplen.

    The tag counts for the snapshot length and is there on the wire.
    """
    cdef const xdp_desc *desc = xsk_ring_cons__rx_desc(c.rx, index)
    cdef uint32_t caplen = min(length + TAG_BYTES, c.encoder.snaplen), taken = 0, done
    out += encode_head(&c.encoder, out, ts_ns, caplen, origlen + TAG_BYTES)
    done = put_tagged(out, c.area + desc.addr, tag, caplen, &taken)
    _copy(c, index, frames, out + done, caplen - done, taken)
    return caplen


cdef inline Reason _record(CaptureState *c, uint32_t index, uint32_t frames,
                           uint32_t length) noexcept nogil:
    """Encode one packet of `frames` descriptors into the open block."""
    cdef const xdp_desc *desc = xsk_ring_cons__rx_desc(c.rx, index)
    cdef uint32_t caplen = length if length < c.encoder.snaplen else c.encoder.snaplen
    cdef uint32_t origlen = length, tag = 0, head
    cdef xdpcap_meta *meta
    cdef uint64_t ts_ns
    cdef unsigned char *out
    cdef Reason reason
    if sink_failed(c.sink):
        c.sink.write_dropped += 1
    else:
        meta = meta_before(c, desc.addr)
        reason = may_record(c, record_bound(&c.encoder, caplen) + meta_growth(c, meta))
        if reason != RUN_ON:
            return reason
        ts_ns = take_meta(c, meta, &origlen, &tag)
        out = c.sink.out
        if tag:
            caplen = _encode_tagged(c, index, frames, out, ts_ns, length, origlen, tag)
        else:
            head = encode_head(&c.encoder, out, ts_ns, caplen, origlen)
            if frames == 1:
                memcpy(out + head, c.area + desc.addr, caplen)
            else:
                _copy(c, index, frames, out + head, caplen, 0)
        sink_commit(c.sink, encode_tail(&c.encoder, out, caplen), caplen)
        if c.first_ts_ns == 0:
            c.first_ts_ns = ts_ns
        c.last_ts_ns = ts_ns
    c.received += 1
    c.received_bytes += length
    return RUN_ON


# ---------------------------------------------------------------- one batch

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


cdef Reason _batch(CaptureState *c, uint32_t want, uint32_t *taken) noexcept nogil:
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
        reason = _record(c, index + done, frames, length)
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


cdef void discard_all(CaptureState *c) noexcept nogil:
    """Empty the RX ring after a limit was reached."""
    cdef uint32_t index = 0, count, i
    if c.mirror != NULL:
        mirror_discard(c)
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
        mirror_abandon(c)
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
            reason = mirror_batch(c, want, &taken)
        else:
            reason = _batch(c, want, &taken)
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
