"""The sending loop: packets from memory onto the TX ring, each at its time.

Purpose: post descriptors, kick the kernel, reap completions, measure how late each
packet was handed over.
Owner: one worker thread a TxState.  `stop` may be set and the counters read from any
thread.
Frees: nothing; `replay.transmitter` owns the struct and the arrays it points to.

A packet that was laid out in the UMEM beforehand is posted from where it lies, again and
again; its bytes never change, so it does not matter that an earlier posting may still be
on its way.  Where the packets do not fit, each is copied into a free frame when its
time comes.  So is each that asks the NIC for a launch time, which no two postings share.

With launch times everything happens `lead_ns` early, the deadline too: `begun_ns` and
`deadline_ns` have it taken off.  Only lateness and launch times count from when packets are due.

Source relied on: Documentation/networking/af_xdp.rst and xsk-tx-metadata.rst; net/xdp/xsk.c,
__xsk_generic_xmit().
"""

from libc.errno cimport EAGAIN, EBUSY, EINTR, ENETDOWN, ENOBUFS, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_load_int, atomic_sub_i64
from xdpcap.clib.posix cimport CLOCK_MONOTONIC, MSG_DONTWAIT, nanosleep, sendto, timespec
from xdpcap.host.clocks cimport clock_ns, clock_refresh
from xdpcap.rings.tx_metadata cimport XDP_TX_METADATA, ask_launch, ask_nothing
from xdpcap.rings.umem cimport pool_give, pool_take
from xdpcap.clib.libxdp cimport (
    XDP_PKT_CONTD,
    xdp_desc,
    xsk_prod_nb_free,
    xsk_ring_cons__comp_addr,
    xsk_ring_cons__peek,
    xsk_ring_cons__release,
    xsk_ring_prod__needs_wakeup,
    xsk_ring_prod__reserve,
    xsk_ring_prod__submit,
    xsk_ring_prod__tx_desc,
)


cdef extern from *:
    """
    #if defined(__x86_64__) || defined(__i386__)
    #define xdpcap_relax() __builtin_ia32_pause()
    #else
    #define xdpcap_relax() __asm__ __volatile__("" ::: "memory")
    #endif
    """
    void relax "xdpcap_relax"() nogil
    int clzll "__builtin_clzll"(unsigned long long value) nogil

cdef enum:
    # The last stretch before a packet's time is waited for awake.  A CPU that sleeps for a
    # few microseconds wakes late now and then: a halted virtual one up to milliseconds.
    SPIN_NS = 2000000
    SLEEP_MOST_NS = 50000000    # so that a stop is seen
    # Without a completion or a free slot for so long the device is stuck.
    STUCK_NS = 2000000000
    PAUSE_NS = 1000


cdef void _sleep(uint64_t ns) noexcept nogil:
    cdef timespec ts
    ts.tv_sec = 0
    ts.tv_nsec = <long>(ns if ns < SLEEP_MOST_NS else SLEEP_MOST_NS)
    nanosleep(&ts, NULL)


# ---------------------------------------------------------------- lateness

cdef inline uint32_t _bucket(uint64_t ns) noexcept nogil:
    cdef uint32_t octave
    if ns < HISTOGRAM_STEPS:
        return <uint32_t>ns
    octave = 63 - clzll(ns)
    return (octave - 4) * HISTOGRAM_STEPS + <uint32_t>((ns >> (octave - 5)) - HISTOGRAM_STEPS)


cdef uint64_t bucket_floor(uint32_t bucket) noexcept nogil:
    """The least lateness of a bucket, ns."""
    cdef uint32_t octave = bucket // HISTOGRAM_STEPS
    cdef uint64_t step = bucket % HISTOGRAM_STEPS
    if octave == 0:
        return step
    return (HISTOGRAM_STEPS + step) << (octave - 1)


cdef inline void _note_lateness(TxState *t, int64_t due, uint64_t now) noexcept nogil:
    cdef uint64_t late = now - <uint64_t>due if <int64_t>now > due else 0
    t.histogram[_bucket(late)] += 1
    if late < t.least_ns:
        t.least_ns = late
    if late > t.most_ns:
        t.most_ns = late
    if late > t.late_ns:
        t.late_count += 1


# ---------------------------------------------------------------- rings

cdef uint32_t _reap(TxState *t) noexcept nogil:
    """Take completions: frames back to the pool, packets counted."""
    cdef uint32_t index = 0, count, i
    cdef uint64_t frame
    count = xsk_ring_cons__peek(t.completion, t.completion.size, &index)
    for i in range(count):
        frame = xsk_ring_cons__comp_addr(t.completion, index + i)[0] // t.frame_size
        t.completed += t.last_of_packet[frame]
        if t.placed == NULL:
            pool_give(t.pool, frame * t.frame_size)
    if count:
        xsk_ring_cons__release(t.completion, count)
        t.frames_out -= count
    return count


cdef TxReason _kick(TxState *t) noexcept nogil:
    """Tell the kernel of new descriptors; what passes is tried again by the caller."""
    if not (t.kick_always or xsk_ring_prod__needs_wakeup(t.tx)):
        return TX_ON
    t.kick_count += 1
    if sendto(t.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0:
        return TX_ON
    if errno == EAGAIN or errno == EBUSY or errno == ENOBUFS or errno == EINTR:
        return TX_ON
    if errno == ENETDOWN:
        return TX_DOWN
    t.error = errno
    return TX_FAILED


cdef inline uint32_t _frames_of(const TxState *t, uint32_t length) noexcept nogil:
    return <uint32_t>((length + t.room - 1) // t.room)


cdef void _ask_launch(TxState *t, uint32_t index, uint64_t which, uint32_t frames) noexcept nogil:
    """Ask for the launch time of a packet whose descriptors are written."""
    cdef xdp_desc *desc = xsk_ring_prod__tx_desc(t.tx, index)
    cdef int64_t due = t.begun_ns + <int64_t>t.lead_ns + t.due[t.order[which]]
    cdef uint32_t i
    desc.options |= XDP_TX_METADATA
    ask_launch(t.area + desc.addr, <uint64_t>(due + t.clock.offset_ns))
    for i in range(1, frames):
        ask_nothing(t.area + xsk_ring_prod__tx_desc(t.tx, index + i).addr)


cdef inline void _post(TxState *t, uint32_t index, uint64_t which, uint32_t frames) noexcept nogil:
    """Write the descriptors of one packet; its frames are there (`frames` reserved)."""
    cdef const Entry *entry = &t.entries[t.order[which]]
    cdef uint64_t addr = 0
    cdef uint32_t left = entry.length, part, i
    cdef const unsigned char *data = t.bytes + entry.offset
    cdef xdp_desc *desc
    for i in range(frames):
        part = left if left < t.room else <uint32_t>t.room
        if t.placed != NULL:
            addr = t.placed[which] + i * t.frame_size
        else:
            pool_take(t.pool, &addr)
            addr += t.tx_metadata_len
            memcpy(t.area + addr, data, part)
            data += part
            t.last_of_packet[addr // t.frame_size] = i + 1 == frames
        desc = xsk_ring_prod__tx_desc(t.tx, index + i)
        desc.addr = addr
        desc.len = part
        desc.options = XDP_PKT_CONTD if i + 1 < frames else 0
        left -= part
    if t.launch:
        _ask_launch(t, index, which, frames)


# ---------------------------------------------------------------- the loop

cdef uint64_t _due_now(const TxState *t, uint64_t now) noexcept nogil:
    """Packets from t.next on whose time has come, at most a batch."""
    cdef uint64_t count = 0, most = t.count - t.next
    if most > t.batch:
        most = t.batch
    if t.due == NULL:
        return most
    while count < most and t.begun_ns + t.due[t.order[t.next + count]] <= <int64_t>now:
        count += 1
    return count


cdef void _wait_until(TxState *t, int64_t due) noexcept nogil:
    """Sleep, then watch the clock, until a packet's time or a stop."""
    cdef int64_t left
    while not atomic_load_int(&t.stop, __ATOMIC_RELAXED):
        left = due - <int64_t>clock_ns(CLOCK_MONOTONIC)
        if left <= 0:
            return
        if t.sleep_only:
            _sleep(<uint64_t>left)
        elif left > SPIN_NS:
            _sleep(<uint64_t>left - SPIN_NS)
            _reap(t)
        else:
            relax()


cdef uint32_t _post_some(TxState *t, uint64_t wanted) noexcept nogil:
    """Post up to `wanted` packets, as many as ring and frames allow; returns how many."""
    cdef uint32_t frames, index = 0, posted = 0
    cdef uint32_t room = xsk_prod_nb_free(t.tx, t.tx.size)
    cdef uint32_t total = 0
    cdef const Entry *entry
    while posted < wanted:
        entry = &t.entries[t.order[t.next + posted]]
        frames = _frames_of(t, entry.length)
        if total + frames > room or (t.placed == NULL and t.pool.free_count < frames):
            break
        if xsk_ring_prod__reserve(t.tx, frames, &index) != frames:
            break
        _post(t, index, t.next + posted, frames)
        total += frames
        posted += 1
        t.submitted_bytes += entry.length
    if posted:
        xsk_ring_prod__submit(t.tx, total)
        t.frames_out += total
        t.submitted += posted
    return posted


cdef uint64_t _allowed(TxState *t, uint64_t wanted) noexcept nogil:
    """What the limit of all queues together leaves of `wanted`."""
    cdef int64_t left
    if t.limit == NULL:
        return wanted
    left = atomic_sub_i64(t.limit, <int64_t>wanted, __ATOMIC_RELAXED)
    if left >= 0:
        return wanted
    if left <= -<int64_t>wanted:
        atomic_sub_i64(t.limit, -<int64_t>wanted, __ATOMIC_RELAXED)
        return 0
    atomic_sub_i64(t.limit, left, __ATOMIC_RELAXED)
    return wanted + <uint64_t>left


cdef TxReason _hand_over(TxState *t, uint64_t wanted) noexcept nogil:
    """Post `wanted` packets and tell the kernel, waiting for room in bounded steps."""
    cdef uint32_t posted, i
    cdef TxReason reason
    cdef uint64_t now
    while wanted:
        posted = _post_some(t, wanted)
        reason = _kick(t)
        now = clock_ns(CLOCK_MONOTONIC)
        if posted:
            t.progress_ns = now
            if t.due != NULL:
                for i in range(posted):
                    _note_lateness(
                        t, t.begun_ns + t.lead_ns + t.due[t.order[t.next + i]], now)
            t.next += posted
            wanted -= posted
        else:
            t.ring_full_count += 1
        if _reap(t):
            t.progress_ns = now
        if reason == TX_FAILED:
            return reason
        if now - t.progress_ns > STUCK_NS:
            return TX_DOWN if reason == TX_DOWN else TX_STUCK
        if not posted:
            if atomic_load_int(&t.stop, __ATOMIC_RELAXED):
                return TX_STOPPED
            if reason == TX_DOWN:
                _sleep(PAUSE_NS * 1000)
            elif not t.kick_always:
                _sleep(PAUSE_NS)
    return TX_ON


cdef TxReason tx_run(TxState *t) noexcept nogil:
    """Send the rest of the set; t.next tells how far it came."""
    cdef uint64_t now, wanted, allowed
    cdef TxReason reason
    _wait_until(t, t.begun_ns)
    t.progress_ns = clock_ns(CLOCK_MONOTONIC)
    while t.next < t.count:
        if atomic_load_int(&t.stop, __ATOMIC_RELAXED):
            return TX_STOPPED
        now = clock_ns(CLOCK_MONOTONIC)
        if t.deadline_ns and now >= t.deadline_ns:
            return TX_LIMIT
        wanted = _due_now(t, now)
        if wanted == 0:
            _wait_until(t, t.begun_ns + t.due[t.order[t.next]])
            t.progress_ns = clock_ns(CLOCK_MONOTONIC)
            continue
        allowed = _allowed(t, wanted)
        if t.launch:
            clock_refresh(&t.clock, now)
        reason = _hand_over(t, allowed)
        if reason != TX_ON:
            return reason
        if allowed < wanted:
            return TX_LIMIT
    return TX_DONE


cdef TxReason tx_drain(TxState *t, uint64_t patience_ns) noexcept nogil:
    """Wait until everything handed over is completed, kicking what the kernel left."""
    cdef uint64_t since = clock_ns(CLOCK_MONOTONIC), now
    cdef TxReason reason
    while t.frames_out:
        reason = _kick(t)
        now = clock_ns(CLOCK_MONOTONIC)
        if _reap(t):
            since = now
            continue
        if reason == TX_FAILED:
            return reason
        if now - since > patience_ns:
            return TX_DOWN if reason == TX_DOWN else TX_STUCK
        _sleep(PAUSE_NS)
    return TX_DONE


cdef void tx_run_bare(TxState *t) noexcept nogil:
    """The limit of what can be sent: post frame after frame, without looking at packets.

    All packets of the set are as long as the first, of one frame each, and laid out.
    """
    cdef uint32_t index = 0, count, i, length = t.entries[t.order[0]].length
    cdef uint64_t which = 0
    cdef xdp_desc *desc
    while not atomic_load_int(&t.stop, __ATOMIC_RELAXED):
        count = xsk_prod_nb_free(t.tx, t.batch)
        if count > t.batch:
            count = t.batch
        if count and xsk_ring_prod__reserve(t.tx, count, &index) == count:
            for i in range(count):
                desc = xsk_ring_prod__tx_desc(t.tx, index + i)
                desc.addr = t.placed[which]
                desc.len = length
                desc.options = 0
                which = which + 1 if which + 1 < t.count else 0
            xsk_ring_prod__submit(t.tx, count)
            t.frames_out += count
        if _kick(t) == TX_FAILED:
            return
        _reap(t)
