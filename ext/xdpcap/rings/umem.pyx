"""UMEM: the memory that an AF_XDP socket and the kernel share.

Purpose: map the area, register it (libxdp's xsk_umem__create), own the fill and
completion rings and the pool of free frames.
Owner: the thread that made it; rings and pool are not locked.
Frees: close() unregisters and unmaps; refused while a socket still uses the UMEM.

Source relied on: Documentation/networking/af_xdp.rst, section "UMEM"; net/xdp/xdp_umem.c.
"""

cimport cython
from libc.errno cimport errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from xdpcap.clib.posix cimport (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_HUGETLB,
    MAP_POPULATE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    _SC_PAGESIZE,
    mmap,
    munmap,
    sysconf,
)
from xdpcap.host.forks cimport leave_out_of_forks, leave_ring_out_of_forks
from xdpcap.clib.libxdp cimport (
    xsk_ring_prod__fill_addr,
    xsk_ring_prod__reserve,
    xsk_ring_prod__submit,
    xsk_umem__create,
    xsk_umem__delete,
    xsk_umem_config,
)

from xdpcap.errors import KernelError, UsageError


cdef enum:
    HUGE_PAGE_BYTES = 2097152


def _is_power_of_two(value):
    return value > 0 and value & (value - 1) == 0


@cython.no_gc_clear
cdef class Umem(Held):
    """Memory registered with the kernel, cut into frames of equal size.

    Parameters
    ----------
    size_bytes : int
        Whole area; a multiple of `frame_size` and of the page size.
    frame_size : int
        Bytes a frame, a power of two from 2048 to the page size.  The kernel keeps
        256 bytes of each as headroom, so a frame carries `frame_size` - 256 bytes of
        packet (net/xdp/xsk_buff_pool.c, XDP_PACKET_HEADROOM).
    fill_size, completion_size : int
        Descriptors in the two rings, powers of two.
    hugepages : bool
        Ask for 2 MiB pages; where there are none the area is made of ordinary pages
        and `hugepages` reads False.

    Raises UsageError for sizes that can't work and KernelError for what the kernel
    refuses.  Frames are addressed by their offset from the start of the area.
    """

    def __cinit__(self, uint64_t size_bytes, *, uint32_t frame_size=2048,
                  uint32_t fill_size=4096, uint32_t completion_size=4096,
                  bint hugepages=False):
        cdef uint32_t i
        page = sysconf(_SC_PAGESIZE)
        if not _is_power_of_two(frame_size) or not 2048 <= frame_size <= page:
            raise UsageError(
                f"frame size {frame_size} is not a power of two between 2048 and {page}")
        for name, value in (("fill", fill_size), ("completion", completion_size)):
            if not _is_power_of_two(value):
                raise UsageError(f"{name} ring size {value} is not a power of two")
        if size_bytes == 0 or size_bytes % page:
            raise UsageError(f"UMEM of {size_bytes} bytes is not a multiple of the page size {page}")
        self.size_bytes = size_bytes
        self.frame_size = frame_size
        self.frame_count = <uint32_t>(size_bytes // frame_size)
        self.fill_size = fill_size
        self.completion_size = completion_size
        self.pool.addrs = <uint64_t *>malloc(self.frame_count * sizeof(uint64_t))
        if self.pool.addrs == NULL:
            raise MemoryError
        self.pool.frame_count = self.frame_count
        # Highest address first, so that frames are taken in ascending order.
        for i in range(self.frame_count):
            self.pool.addrs[i] = <uint64_t>(self.frame_count - 1 - i) * frame_size
        self.pool.free_count = self.frame_count
        self._map(hugepages)
        self._register()

    def _map(self, bint hugepages):
        cdef void *area = MAP_FAILED
        cdef int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
        if hugepages and self.size_bytes % HUGE_PAGE_BYTES == 0:
            area = mmap(NULL, self.size_bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0)
            self.hugepages = area != MAP_FAILED
        if area == MAP_FAILED:
            area = mmap(NULL, self.size_bytes, PROT_READ | PROT_WRITE, flags, -1, 0)
        if area == MAP_FAILED:
            raise KernelError(f"mmap(UMEM, {self.size_bytes} bytes)", errno,
                              "ask for less with --umem-size")
        self.area = <unsigned char *>area
        leave_out_of_forks(area, self.size_bytes, "UMEM")

    def _register(self):
        cdef xsk_umem_config config
        cdef int err
        # libxdp 1.3.1 does not zero the rings' cached indices.
        memset(&self.fill, 0, sizeof(self.fill))
        memset(&self.completion, 0, sizeof(self.completion))
        memset(&config, 0, sizeof(config))
        config.fill_size = self.fill_size
        config.comp_size = self.completion_size
        config.frame_size = self.frame_size
        err = xsk_umem__create(&self.handle, self.area, self.size_bytes,
                               &self.fill, &self.completion, &config)
        if err:
            self.handle = NULL
            raise KernelError(
                f"xsk_umem__create({self.size_bytes} bytes, frames of {self.frame_size})", err,
                {1: "needs CAP_NET_RAW; run with sudo",
                 12: "raise `ulimit -l` or ask for less with --umem-size",
                 105: "raise `ulimit -l` or ask for less with --umem-size",
                 97: "this kernel has no AF_XDP; it needs 4.18 or later with CONFIG_XDP_SOCKETS",
                 }.get(-err, ""))
        # libxdp has mapped them.
        leave_ring_out_of_forks(self.fill.producer,
                                <uint64_t *>self.fill.ring + self.fill_size, "fill ring")
        leave_ring_out_of_forks(self.completion.producer,
                                <uint64_t *>self.completion.ring + self.completion_size,
                                "completion ring")

    cdef int _fill_some(self, uint32_t wanted) except -1:
        cdef uint32_t index = 0, i
        cdef uint64_t addr = 0
        wanted = min(wanted, self.pool.free_count)
        wanted = min(wanted, self.fill_size)
        if wanted == 0 or xsk_ring_prod__reserve(&self.fill, wanted, &index) == 0:
            return 0
        for i in range(wanted):
            self.pool.free_count -= 1
            addr = self.pool.addrs[self.pool.free_count]
            xsk_ring_prod__fill_addr(&self.fill, index + i)[0] = addr
        xsk_ring_prod__submit(&self.fill, wanted)
        return <int>wanted

    def populate_fill(self, uint32_t count=0xFFFFFFFF):
        """Hand up to `count` free frames to the kernel; returns how many it took."""
        self._check_open()
        if self._bound and not self.holders:
            # libxdp unmaps both rings with the socket (xsk.c, xsk_put_ctx()).
            raise ValueError("the UMEM's socket is closed, and its rings with it; make a new Umem")
        return self._fill_some(count)

    @property
    def free_count(self):
        """Frames that neither the kernel nor a packet holds."""
        return self.pool.free_count

    def _check_open(self):
        if self.handle == NULL:
            raise ValueError("the UMEM is closed")

    def close(self):
        """Unregister and unmap; safe to call again.  ValueError while a socket holds it."""
        self.require_unheld("the UMEM")
        if self.handle != NULL:
            xsk_umem__delete(self.handle)
            self.handle = NULL
        if self.area != NULL:
            munmap(self.area, self.size_bytes)
            self.area = NULL
        free(self.pool.addrs)
        self.pool.addrs = NULL
        self.pool.free_count = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        if self.handle != NULL:
            xsk_umem__delete(self.handle)
        if self.area != NULL:
            munmap(self.area, self.size_bytes)
        free(self.pool.addrs)
