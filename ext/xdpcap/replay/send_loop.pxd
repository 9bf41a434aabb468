from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from xdpcap.host.clocks cimport DeviceClock
from xdpcap.packets.packet_set cimport Entry
from xdpcap.rings.umem cimport FramePool
from xdpcap.clib.libxdp cimport xsk_ring_cons, xsk_ring_prod


# Lateness in nanoseconds, logarithmic with 32 steps an octave: 3% a step.
cdef enum:
    HISTOGRAM_STEPS = 32
    HISTOGRAM_BUCKETS = 60 * HISTOGRAM_STEPS


cdef enum TxReason:
    TX_ON = 0
    TX_DONE = 1         # every packet of the set has been handed over
    TX_STOPPED = 2      # request_stop()
    TX_STUCK = 3        # no progress for too long
    TX_DOWN = 4         # the interface is down
    TX_FAILED = 5       # sendto() failed for good
    TX_LIMIT = 6        # the limit of packets or the time is reached


cdef struct TxState:
    xsk_ring_prod *tx
    xsk_ring_cons *completion
    unsigned char *area
    FramePool *pool
    uint8_t *last_of_packet     # a mark a frame: its completion completes a packet
    uint64_t frame_size
    uint64_t room               # what a frame carries of a packet: all but its metadata
    uint32_t tx_metadata_len    # 0 but in a MetadataUmem
    bint launch                 # each packet asks for its launch time; never with `placed`
    uint64_t lead_ns            # how long before it is due a packet is handed over
    DeviceClock clock           # that launch times are in
    int fd
    bint kick_always            # without need_wakeup, or in copy mode
    uint32_t batch
    bint sleep_only             # --timer sleep
    int stop
    # The set being sent.
    const Entry *entries
    const unsigned char *bytes
    const uint32_t *order       # this queue's packets, as indices of entries
    const int64_t *due          # ns after `begun_ns`, an entry each; NULL for top speed
    const uint64_t *placed      # address of each of order's packets; NULL: copy when sent
    uint64_t count
    uint64_t next
    int64_t begun_ns            # CLOCK_MONOTONIC, less lead_ns
    uint64_t deadline_ns        # less lead_ns; 0 for none
    int64_t *limit              # packets that may still be sent, all queues; or NULL
    uint64_t late_ns            # later than that counts as late
    uint64_t progress_ns        # when something was last completed or taken
    int error                   # errno with TX_FAILED
    # Counters: written by the worker only.
    uint64_t submitted          # packets
    uint64_t submitted_bytes
    uint64_t completed          # packets
    uint64_t frames_out         # descriptors handed over and not completed
    uint64_t kick_count
    uint64_t late_count
    uint64_t ring_full_count
    uint64_t[HISTOGRAM_BUCKETS] histogram
    uint64_t least_ns
    uint64_t most_ns


cdef TxReason tx_run(TxState *t) noexcept nogil
cdef TxReason tx_drain(TxState *t, uint64_t patience_ns) noexcept nogil
cdef void tx_run_bare(TxState *t) noexcept nogil
cdef uint64_t bucket_floor(uint32_t bucket) noexcept nogil
