from libc.stdint cimport int64_t, uint32_t, uint64_t

from xdpcap.savefile.blocks cimport Sink
from xdpcap.rings.copy_rings cimport CopyRings
from xdpcap.host.clocks cimport DeviceClock
from xdpcap.savefile.encode cimport Encoder
from xdpcap.clib.libxdp cimport xsk_ring_cons, xsk_ring_prod


cdef enum Reason:
    RUN_ON = 0
    RUN_STOPPED = 1
    RUN_ROTATE = 2
    RUN_FILE_DONE = 3
    RUN_WRITE_FAILED = 4
    RUN_LIMIT = 5
    RUN_NO_FILE = 6
    RUN_NO_ROOM = 7
    RUN_PARTIAL = 8


cdef struct Budget:
    int64_t packets         # what may still be recorded, all workers together
    int64_t bytes           # of files


cdef struct CaptureState:
    xsk_ring_cons *rx
    xsk_ring_prod *fill
    unsigned char *area
    CopyRings *mirror           # instead of the four above, in mirror mode
    uint64_t frame_mask
    int fd
    int wake_fd
    uint32_t batch
    bint busy_poll
    Sink *sink
    Encoder encoder
    Budget *budget
    int stop
    int rotate
    int clock
    int64_t utc_offset_ns       # UTC minus the program's clock
    DeviceClock device_clock    # of hardware times; its id is 0 where there are none
    bint device_time            # the file's times are in the device's clock, not in UTC
    # What follows from them, see set_offsets().
    int64_t clock_offset_ns     # the file's clock minus the program's
    int64_t device_offset_ns    # the file's clock minus the device's
    int64_t file_ahead_ns       # the file's clock minus UTC
    uint64_t clock_due_ns
    uint64_t statistics_due_ns
    uint64_t dropped_seen
    uint64_t drops_ahead        # lost, and in no record's epb_dropcount yet
    uint32_t drops_at           # RX index of the first packet after them
    uint64_t flush_interval_ns
    uint64_t rotate_size
    uint64_t rotate_packets
    bint failure_told           # WRITE_FAILED or NO_FILE has been returned
    uint64_t pause_ns
    void (*refill)(void *source) noexcept nogil  # makes packets, where they are simulated
    void *source
    uint64_t stop_seen_ns
    # Counters: written by the worker only, read by anyone.
    uint64_t received           # packets taken off the RX ring
    uint64_t received_bytes
    uint64_t beyond_limit       # packets left alone after --count or --max-size
    uint64_t no_meta            # packets that the worker had to stamp itself
    uint64_t device_stamped     # packets with the device's time
    uint64_t wait_count         # sleeps and polls
    uint64_t first_ts_ns
    uint64_t last_ts_ns


cdef Reason run_record(CaptureState *c) noexcept nogil
cdef Reason run_drop(CaptureState *c) noexcept nogil
cdef void discard_all(CaptureState *c) noexcept nogil
cdef void abandon_all(CaptureState *c) noexcept nogil
