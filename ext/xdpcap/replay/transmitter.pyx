"""Sending one queue's packets, from Python: sets up the loop (`send_loop`) and runs it.

Purpose: lay packets out in the UMEM where they fit, run a set without the GIL, report
what was completed and how late each packet was handed over.
Owner: one worker thread; other threads may read the counters and call request_stop().
Frees: close(); the Xsk and its Umem are the caller's, the packets are kept while in use.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from xdpcap.clib.atomic cimport __ATOMIC_RELAXED, atomic_store_int
from xdpcap.clib.posix cimport PR_SET_TIMERSLACK, prctl
from xdpcap.host.clocks cimport clock_measure
from xdpcap.packets.packet_set cimport Entry, PacketSet
from xdpcap.replay.plan cimport Order, Plan
from xdpcap.rings.socket_calls cimport raise_tx_budget
from xdpcap.replay.send_loop cimport (
    HISTOGRAM_BUCKETS,
    TxReason,
    TxState,
    bucket_floor,
    tx_drain,
    tx_run,
    tx_run_bare,
)
from xdpcap.rings.xsk cimport Xsk

from xdpcap.errors import KernelError, UsageError


# Why run() came back.
DONE = 1        # every packet of the set has been handed over
STOPPED = 2     # request_stop()
STUCK = 3       # no completion and no room for two seconds
DOWN = 4        # the interface is down
FAILED = 5      # sendto() failed for good; `error` is its errno
LIMIT = 6       # the limit of packets or the time is reached


cdef class SendLimit:
    """Packets that may still be sent, all queues together."""

    cdef int64_t left

    def __cinit__(self, int64_t packets):
        self.left = packets


@cython.no_gc_clear
cdef class Transmitter:
    """Sends packet sets out of one queue.

    Parameters
    ----------
    xsk : Xsk
        With a TX ring; its UMEM's frames are this object's to use.
    batch : int
        Packets handed over at a time, at most.
    late_ns : int
        A packet handed over later than that counts as late.
    sleep_only : bool
        Never wait awake: less exact, easy on the CPU.
    limit : SendLimit
        Shared by all queues, or None.
    launch_clock, lead_ns : int
        Where the UMEM is a MetadataUmem: the clock id of the device's own clock, or None.
        With one, each packet of a paced set is handed over `lead_ns` before it is due, and
        its due time in that clock with it, for the device to send it then.
    """

    # What the loop points into; it holds the socket until close(), the packets until the next.
    cdef readonly Xsk xsk
    cdef TxState t
    cdef str _name              # for people
    cdef bint _holds_xsk
    cdef bint _running
    cdef PacketSet _packets
    cdef Order _order
    cdef Plan _plan
    cdef SendLimit _limit
    cdef uint64_t *_placed
    cdef bint _timed
    cdef uint64_t _lead_ns
    cdef readonly uint32_t tx_budget

    def __cinit__(self, Xsk xsk not None, *, uint32_t batch=32, uint64_t late_ns=1000000,
                  bint sleep_only=False, SendLimit limit=None, launch_clock=None,
                  uint64_t lead_ns=0):
        if xsk.tx_size == 0:
            raise ValueError("the socket was made without a TX ring")
        if launch_clock is not None and not xsk.umem.tx_metadata_len:
            raise ValueError("launch times need a MetadataUmem")
        memset(&self.t, 0, sizeof(self.t))
        xsk._check_open()
        self.xsk = xsk
        self._name = f"the Transmitter of {xsk.interface} queue {xsk.queue}"
        xsk.hold(self._name)
        self._holds_xsk = True
        self.t.tx = &xsk.tx
        self.t.completion = &xsk.umem.completion
        self.t.area = xsk.umem.area
        self.t.pool = &xsk.umem.pool
        self.t.frame_size = xsk.umem.frame_size
        self.t.tx_metadata_len = xsk.umem.tx_metadata_len
        self.t.room = xsk.umem.frame_size - xsk.umem.tx_metadata_len
        self.t.fd = xsk.fd
        self.t.kick_always = not xsk.zero_copy or not xsk.need_wakeup
        self.t.batch = min(batch, xsk.tx_size)
        self.t.sleep_only = sleep_only
        self.t.late_ns = late_ns
        self.t.least_ns = <uint64_t>-1
        self._limit = limit
        if limit is not None:
            self.t.limit = &limit.left
        self.t.last_of_packet = <uint8_t *>calloc(xsk.umem.frame_count, 1)
        if self.t.last_of_packet == NULL:
            raise MemoryError
        self.tx_budget = raise_tx_budget(self.t.fd, self.t.batch)
        self._timed = launch_clock is not None
        if self._timed:
            self.t.clock.id = launch_clock
            self._lead_ns = lead_ns
            if not clock_measure(&self.t.clock):
                raise KernelError(f"clock_gettime({launch_clock})", errno)

    def load(self, PacketSet packets not None, Order order not None, Plan plan=None, *,
             bint place=True):
        """Take a set to send next; `plan` None sends as fast as the link takes it.

        With `place` the packets are laid out in the UMEM once if they fit; returns
        whether they were.  Before and after a set that is laid out, everything handed
        over must be completed; sets that are copied follow each other without a pause.
        In a UMEM with metadata all are copied.
        """
        self._check_idle()
        place = place and self.t.tx_metadata_len == 0
        if self.t.frames_out and (place or self.t.placed != NULL):
            raise ValueError("drain() before loading another set")
        self._check_set(packets, order, plan)
        self._forget()
        packets.hold(self._name)
        self._packets, self._order, self._plan = packets, order, plan
        self.t.entries = packets.list.entries
        self.t.bytes = packets.list.bytes
        self.t.order = order.index
        self.t.count = order.count
        self.t.due = plan.due if plan is not None else NULL
        self.t.launch = self._timed and plan is not None
        self.t.lead_ns = self._lead_ns if self.t.launch else 0
        self.t.next = 0
        return place and self._place()

    cdef _check_set(self, PacketSet packets, Order order, Plan plan):
        """That order and plan are of this set, and each of its packets can be sent."""
        cdef uint64_t i
        cdef uint32_t most = 0
        if plan is not None and plan.count < packets.list.count:
            raise ValueError("the plan is of another set")
        for i in range(order.count):
            if order.index[i] >= packets.list.count:
                raise ValueError("the order is of another set")
            most = max(most, packets.list.entries[order.index[i]].length)
        if most > self.t.room and not self.xsk.multi_buffer:
            raise UsageError(
                f"a packet of {most} bytes is longer than a frame of {self.t.room}, and "
                "this kernel or driver sends no packet of several frames (6.6 and later)")

    cdef bint _place(self):
        """Lay the packets out in the UMEM, each in frames of its own."""
        cdef uint64_t size = self.t.frame_size, needed = 0, i, frame = 0, frames
        cdef const Entry *entry
        for i in range(self.t.count):
            needed += (self.t.entries[self.t.order[i]].length + size - 1) // size
        if needed > self.xsk.umem.frame_count or self.t.count == 0:
            return False
        self._placed = <uint64_t *>calloc(self.t.count, sizeof(uint64_t))
        if self._placed == NULL:
            raise MemoryError
        memset(self.t.last_of_packet, 0, self.xsk.umem.frame_count)
        for i in range(self.t.count):
            entry = &self.t.entries[self.t.order[i]]
            frames = (entry.length + size - 1) // size
            self._placed[i] = frame * size
            memcpy(self.t.area + frame * size, self.t.bytes + entry.offset, entry.length)
            frame += frames
            self.t.last_of_packet[frame - 1] = 1
        self.t.placed = self._placed
        return True

    def rewind(self):
        """Send the same set once more from its start."""
        self.t.next = 0

    def run(self, int64_t begun_ns, uint64_t deadline_ns=0):
        """Send the rest of the set; due times count from `begun_ns` (CLOCK_MONOTONIC).

        Returns DONE, STOPPED, STUCK, DOWN, FAILED or LIMIT.
        """
        cdef TxReason reason
        self._check_idle()
        self.t.begun_ns = begun_ns - <int64_t>self.t.lead_ns
        self.t.deadline_ns = deadline_ns - self.t.lead_ns if deadline_ns else 0
        self._running = True
        with nogil:
            prctl(PR_SET_TIMERSLACK, 1)
            reason = tx_run(&self.t)
        self._running = False
        return <int>reason

    def drain(self, double patience_s=2.0):
        """Wait for all completions; DONE, or why some are missing."""
        cdef TxReason reason
        cdef uint64_t patience_ns = <uint64_t>(patience_s * 1e9)
        self._check_idle()
        self._running = True
        with nogil:
            reason = tx_drain(&self.t, patience_ns)
        self._running = False
        return <int>reason

    def run_bare(self):
        """Post the laid-out frames over and over until request_stop(): the limit."""
        self._check_idle()
        if self.t.placed == NULL:
            raise ValueError("load() a set that fits the UMEM first")
        self._running = True
        with nogil:
            tx_run_bare(&self.t)
        self._running = False

    def _check_idle(self):
        if self._running or not self._holds_xsk:
            raise ValueError(
                f"{self._name} is {'running in another thread' if self._running else 'closed'}")

    def request_stop(self):
        """Make run() return; from any thread."""
        atomic_store_int(&self.t.stop, 1, __ATOMIC_RELAXED)

    @property
    def counters(self):
        """submitted, submitted_bytes, completed, late, kicks as a tuple; packets unless said."""
        return (self.t.submitted, self.t.submitted_bytes, self.t.completed, self.t.late_count,
                self.t.kick_count)

    @property
    def frames_out(self):
        """Descriptors handed over and not completed."""
        return self.t.frames_out

    @property
    def error(self):
        """errno of a failed sendto(), or 0."""
        return self.t.error

    @property
    def lateness(self):
        """[(least ns, packets)] of the buckets that hold any; 3% wide each."""
        cdef uint32_t bucket
        return [(bucket_floor(bucket), self.t.histogram[bucket])
                for bucket in range(HISTOGRAM_BUCKETS) if self.t.histogram[bucket]]

    @property
    def lateness_bounds_ns(self):
        """The least and the most lateness, ns; None before the first paced packet."""
        if self.t.least_ns == <uint64_t>-1:
            return None
        return self.t.least_ns, self.t.most_ns

    cdef _forget(self):
        free(self._placed)
        self._placed = NULL
        self.t.placed = NULL
        self.t.count = 0
        if self._packets is not None:
            self._packets.release(self._name)
            self._packets = None

    def close(self):
        """Let go of the socket and the packets; safe to call again.  ValueError while it runs."""
        if self._running:
            raise ValueError(f"{self._name} is running; request_stop() and wait for its end first")
        self._free()

    cdef _free(self):
        self._forget()
        free(self.t.last_of_packet)
        self.t.last_of_packet = NULL
        if self._holds_xsk:
            self._holds_xsk = False
            self.xsk.release(self._name)

    def __dealloc__(self):
        self._free()
