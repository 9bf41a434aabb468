"""Recording one queue, from Python: a socket or rings on one side, a FileSink on the other.

Purpose: set the hot loop (`record.loop`) up and run it without the GIL; it comes back for
stop, rotation, a finished file or a failure only.
Owner: one worker thread runs it; other threads may read the counters and call
request_stop() and request_rotation().
Frees: close(); the source and the FileSink are the caller's.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_store_int, atomic_sub_i64
from xdpcap.clib.posix cimport (
    CLOCK_MONOTONIC,
    CLOCK_TAI,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    PR_SET_TIMERSLACK,
    close_fd,
    eventfd,
    prctl,
    write,
)
from xdpcap.rings.copy_rings cimport CopyRing
from xdpcap.host.clocks cimport ahead_measure
from xdpcap.host.held cimport Held
from xdpcap.savefile.encode cimport FORMAT_PCAP, FORMAT_PCAPNG, init_encoder
from xdpcap.savefile.sink cimport FileSink
from xdpcap.record.loop cimport *
from xdpcap.record.waiting cimport set_offsets, utc_offset, waiting
from xdpcap.rings.xsk cimport Xsk

from xdpcap.errors import KernelError


cdef enum:
    PAUSE_START_NS = 20000      # the loop steers it from there
    TIMER_SLACK_NS = 1000       # the pauses are short

# Why run() came back.
STOPPED = 1         # request_stop(), and the ring is empty
ROTATE = 2          # the file is full, or request_rotation()
FILE_DONE = 3       # FileSink.collect() has a file
WRITE_FAILED = 4    # the current file takes no more; current_error says why
LIMIT = 5           # the shared limit of packets or bytes is reached
NO_FILE = 6         # there is no current file

cdef class SharedLimit:
    """A limit of packets and bytes that all workers of a session share."""

    cdef Budget budget

    def __cinit__(self, packets=None, size_bytes=None):
        self.budget.packets = (1 << 62) if packets is None else packets
        self.budget.bytes = (1 << 62) if size_bytes is None else size_bytes

    def take(self, int64_t file_bytes):
        """Take a file's header and tail off the limit of bytes; False when it has less left."""
        if atomic_sub_i64(&self.budget.bytes, file_bytes, __ATOMIC_RELAXED) >= 0:
            return True
        atomic_sub_i64(&self.budget.bytes, -file_bytes, __ATOMIC_RELAXED)
        return False

    @property
    def reached(self):
        """Whether a packet has been refused or the last one been taken."""
        return self.budget.packets <= 0 or self.budget.bytes <= 0


def utc_offset_ns(str clock not None):
    """UTC minus the clock ("monotonic" or "tai") in nanoseconds, measured now."""
    return utc_offset({"monotonic": CLOCK_MONOTONIC, "tai": CLOCK_TAI}[clock])


@cython.no_gc_clear
cdef class Capture:
    """Records one queue: an Xsk or a CopyRing on one side, a FileSink on the other.

    Parameters
    ----------
    source : Xsk or CopyRing
        A socket, bound and with an RX ring; the frames that circulate are those that
        Umem.populate_fill() handed out, so the fill ring has room for them all.  Or the
        rings of mirror mode.
    sink : FileSink
        Where the records go.
    format, snaplen : str, int
        "pcapng" or "pcap"; bytes kept a packet, 0 for all.
    interface_id : int
        Of the file's IDB.
    clock : str
        The program's clock, "monotonic" or "tai".
    hash_algorithm : int
        The octet of epb_hash for the hashes that come with packets; -1 for no hashes.
    device_clock : int
        clockid_t of the device's clock, when packets come with times in it; 0 for none.
    device_time : bool
        The records' times are to be in that clock as it is, those of packets without one
        moved to it; otherwise all are in UTC.
    batch : int
        Descriptors taken at a time.
    flush_interval_s : float
        The longest time that a packet stays in memory only.
    rotate_size, rotate_packets : int
        Limits of a file in bytes and packets; 0 for none.
    limit : SharedLimit
        Shared by all workers, or None.
    """

    # The rings are the socket's and the blocks the sink's: the loop holds both until close().
    cdef readonly object source
    cdef readonly FileSink sink
    cdef SharedLimit limit
    cdef CaptureState c
    cdef str name               # for people
    cdef bint holds_source
    cdef bint holds_sink
    cdef bint running
    cdef bint closed
    cdef bint has_descriptor

    def __cinit__(self, source not None, FileSink sink not None, *, str format="pcapng",
                  uint32_t snaplen=0, uint32_t interface_id=0, str clock="monotonic",
                  int hash_algorithm=-1, int device_clock=0, bint device_time=False,
                  uint32_t batch=256,
                  double flush_interval_s=1.0, uint64_t rotate_size=0,
                  uint64_t rotate_packets=0, bint busy_poll=False, SharedLimit limit=None):
        memset(&self.c, 0, sizeof(self.c))
        self.c.wake_fd = -1
        self.has_descriptor = True
        self.source = source
        self.sink = sink
        self.limit = limit
        sink._check_open()
        if isinstance(source, CopyRing):
            self._take_from_rings(source)
        elif isinstance(source, Xsk):
            self._take_from_socket(source)
        else:
            raise TypeError(f"a Capture records an Xsk or a CopyRing, not {source!r}")
        sink.hold(self.name)
        self.holds_sink = True
        self.c.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.c.wake_fd < 0:
            raise KernelError("eventfd()", errno, "raise `ulimit -n`")
        self.c.batch = min(batch, source.rx_size)
        self.c.busy_poll = busy_poll
        self.c.sink = &sink.s
        sink.s.stop_flag = &self.c.stop
        if limit is not None:
            self.c.budget = &limit.budget
        init_encoder(&self.c.encoder, FORMAT_PCAP if format == "pcap" else FORMAT_PCAPNG,
                     snaplen, interface_id, source.queue, hash_algorithm)
        self.c.clock = CLOCK_TAI if clock == "tai" else CLOCK_MONOTONIC
        self.c.utc_offset_ns = utc_offset(self.c.clock)
        self.c.device_clock.id = device_clock
        self.c.device_time = device_time
        if device_clock and not ahead_measure(&self.c.device_clock):
            raise KernelError(f"clock_gettime({device_clock})", errno)
        set_offsets(&self.c)
        self.c.flush_interval_ns = <uint64_t>(flush_interval_s * 1e9)
        self.c.rotate_size = rotate_size
        self.c.rotate_packets = rotate_packets
        self.c.pause_ns = PAUSE_START_NS

    cdef _take_from_socket(self, Xsk xsk):
        xsk._check_open()
        if xsk.rx_size == 0:
            raise ValueError("the socket was made without an RX ring")
        self.name = f"the Capture of {xsk.interface} queue {xsk.queue}"
        xsk.hold(self.name)
        self.holds_source = True
        self.c.rx = &xsk.rx
        self.c.fill = &xsk.umem.fill
        self.c.area = xsk.umem.area
        self.c.frame_mask = ~(<uint64_t>xsk.umem.frame_size - 1)
        self.c.fd = xsk.fd

    cdef _take_from_rings(self, CopyRing ring):
        ring._check_open()
        self.name = f"the Capture of queue {ring.queue}'s copies"
        ring.hold(self.name)
        self.holds_source = True
        self.c.mirror = &ring.r
        self.c.fd = ring.fd

    def run(self):
        """Record until there is something to decide; returns one of the reasons.

        STOPPED, ROTATE, FILE_DONE, WRITE_FAILED, LIMIT, NO_FILE.  Sets the calling
        thread's timer slack to 1 us, because the pauses are short.
        """
        cdef Reason reason
        self._begin()
        with nogil:
            prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
            reason = run_record(&self.c)
        self.running = False
        return <int>reason

    def run_drop(self):
        """Take packets and throw them away until request_stop(): the bare loop."""
        self._begin()
        with nogil:
            prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
            run_drop(&self.c)
        self.running = False

    def drain(self):
        """Count and throw away what is left in the ring after a limit was reached."""
        self._begin()
        with nogil:
            discard_all(&self.c)
        self.running = False

    def abandon(self):
        """Count what is left in the ring as write_dropped: no file takes it any more."""
        self._begin()
        with nogil:
            abandon_all(&self.c)
        self.running = False

    def _begin(self):
        """The ring is this thread's until `running` is False again."""
        self._check_open()
        if self.running:
            raise ValueError(f"{self.name} is running in another thread")
        self.running = True

    def _check_open(self):
        if self.closed:
            raise ValueError(f"{self.name} is closed")

    def request_stop(self):
        """Make run() return once the ring is empty; from any thread."""
        atomic_store_int(&self.c.stop, 1, __ATOMIC_RELAXED)
        self._wake()

    def request_rotation(self):
        """Make run() return ROTATE; from any thread."""
        atomic_store_int(&self.c.rotate, 1, __ATOMIC_RELAXED)
        self._wake()

    def _wake(self):
        cdef uint64_t one = 1
        write(self.c.wake_fd, &one, sizeof(one))

    @property
    def received(self):
        """Packets taken off the RX ring."""
        return self.c.received

    @property
    def received_bytes(self):
        """Their bytes, on the wire."""
        return self.c.received_bytes

    @property
    def beyond_limit(self):
        """Packets that arrived after the limit was reached."""
        return self.c.beyond_limit

    @property
    def no_meta(self):
        """Packets without metadata, stamped by the worker."""
        return self.c.no_meta

    @property
    def device_stamped(self):
        """Packets with the device's time."""
        return self.c.device_stamped

    @property
    def wait_count(self):
        """How often the worker has slept."""
        return self.c.wait_count

    @property
    def waiting(self):
        """Descriptors in the RX ring now, bytes in rings of copies."""
        self._check_open()
        return waiting(&self.c)

    @property
    def packet_times_ns(self):
        """The first and the last packet recorded, in the records' clock; 0 for none."""
        return self.c.first_ts_ns, self.c.last_ts_ns

    @property
    def clock_offset_ns(self):
        """UTC minus the program's clock, as last measured."""
        return self.c.utc_offset_ns

    @property
    def file_ahead_ns(self):
        """The records' clock minus UTC, as last measured: 0 unless they have the device's."""
        return self.c.file_ahead_ns

    def close(self):
        """Let go of socket and sink; safe to call again.  ValueError while it runs."""
        if self.running:
            raise ValueError(f"{self.name} is running; request_stop() and wait for its end first")
        self._free()

    cdef _free(self):
        self.closed = True
        # Before __cinit__ the number is 0, and somebody else's.
        if self.has_descriptor and self.c.wake_fd >= 0:
            close_fd(self.c.wake_fd)
            self.c.wake_fd = -1
        if self.holds_sink:
            self.holds_sink = False
            if self.sink.s.stop_flag == &self.c.stop:
                self.sink.s.stop_flag = NULL
            self.sink.release(self.name)
        if self.holds_source:
            self.holds_source = False
            (<Held>self.source).release(self.name)

    def __dealloc__(self):
        self._free()
