"""UMEM and socket for packets with metadata: what is asked of the device for each.

Purpose: libxdp before 1.5 can't register a UMEM with room for metadata, so that is done
here with the kernel's own calls: XDP_UMEM_REG, the rings, bind(2).  Everything else is that
of `Umem` and `Xsk`.
Owner: as with those.
Frees: close(), the socket before the memory.

In a frame stand the metadata, then the packet, and a descriptor points to the packet: a
frame carries `tx_metadata_len` bytes less.

Source relied on: Documentation/networking/xsk-tx-metadata.rst; net/xdp/xdp_umem.c,
xdp_umem_reg(); net/xdp/xsk_queue.h, xp_aligned_validate_desc(); libxdp's xsk.c for the rings.
"""

cimport cython
from libc.errno cimport EINVAL, ENODEV, errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from xdpcap.host.forks cimport leave_out_of_forks
from xdpcap.rings.umem cimport Umem
from xdpcap.rings.xsk cimport Xsk
from xdpcap.clib.libxdp cimport AF_XDP, SOL_XDP, XDP_MMAP_OFFSETS, xdp_desc

from xdpcap.errors import KernelError, UsageError


cdef extern from *:
    """
    #include <net/if.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <unistd.h>
    #include <linux/if_xdp.h>

    /* struct xdp_umem_reg as of 6.8; the flag as of 6.11, and of stable kernels before it. */
    struct xdpcap_umem_reg {
        uint64_t addr, len;
        uint32_t chunk_size, headroom, flags, tx_metadata_len;
    };
    static_assert(sizeof(struct xdpcap_umem_reg) == 32, "of the kernel's size");
    #ifndef XDP_UMEM_TX_METADATA_LEN
    #define XDP_UMEM_TX_METADATA_LEN (1 << 2)
    #endif
    """
    struct xdpcap_umem_reg:
        uint64_t addr
        uint64_t len
        uint32_t chunk_size
        uint32_t headroom
        uint32_t flags
        uint32_t tx_metadata_len
    struct xdp_ring_offset:
        uint64_t producer
        uint64_t consumer
        uint64_t desc
        uint64_t flags
    struct xdp_mmap_offsets:
        xdp_ring_offset tx
        xdp_ring_offset fr
        xdp_ring_offset cr
    struct sockaddr_xdp:
        uint16_t sxdp_family
        uint16_t sxdp_flags
        uint32_t sxdp_ifindex
        uint32_t sxdp_queue_id
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    int XDP_TX_RING
    int XDP_UMEM_REG
    int XDP_UMEM_FILL_RING
    int XDP_UMEM_COMPLETION_RING
    int XDP_UMEM_TX_METADATA_LEN
    unsigned long XDP_PGOFF_TX_RING
    unsigned long XDP_UMEM_PGOFF_FILL_RING
    unsigned long XDP_UMEM_PGOFF_COMPLETION_RING
    int SOCK_RAW
    int SOCK_CLOEXEC
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    int MAP_POPULATE
    void *MAP_FAILED
    int socket(int domain, int type, int protocol) nogil
    int bind(int fd, const sockaddr *address, socklen_t size) nogil
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size) nogil
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) nogil
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset) nogil
    int munmap(void *addr, size_t length) nogil
    int c_close "close"(int fd) nogil
    unsigned int if_nametoindex(const char *name) nogil


cdef struct Mapping:
    void *start
    size_t size


cdef int _map_ring(int fd, Mapping *mapping, int option, uint32_t entries, size_t entry_size,
                   const xdp_ring_offset *offset, unsigned long page_offset) except -1:
    """Have the kernel make one ring, and map it."""
    if setsockopt(fd, SOL_XDP, option, &entries, sizeof(entries)):
        raise KernelError(f"setsockopt(ring {option}, {entries} entries)", errno)
    mapping.size = offset.desc + entries * entry_size
    mapping.start = mmap(NULL, mapping.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                         fd, <long>page_offset)
    if mapping.start == MAP_FAILED:
        mapping.start = NULL
        raise KernelError(f"mmap(ring {option}, {mapping.size} bytes)", errno)
    leave_out_of_forks(mapping.start, mapping.size, f"ring {option}")
    return 0


cdef void _unmap(Mapping *mapping) noexcept:
    if mapping.start != NULL:
        munmap(mapping.start, mapping.size)
        mapping.start = NULL


@cython.final  # so that _register() can call this class's own before they are set up
@cython.no_gc_clear
cdef class MetadataUmem(Umem):
    """A `Umem` whose frames have room for metadata before the packet; for sending only.

    KernelError with EINVAL from a kernel before 6.11, which does not know the flag.
    """

    # Zero from the start, which None is not: Umem calls _register() while it makes itself.
    cdef int _descriptor_and_one
    cdef Mapping _fill_map
    cdef Mapping _completion_map
    cdef Mapping _tx_map

    cdef int descriptor(self) except? -1:
        return self._descriptor_and_one - 1

    def _register(self):
        cdef xdpcap_umem_reg area
        cdef int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)
        if fd < 0:
            raise KernelError("socket(AF_XDP)", errno, "needs CAP_NET_RAW; run with sudo")
        self._descriptor_and_one = fd + 1
        memset(&area, 0, sizeof(area))
        area.addr = <uint64_t>self.area
        area.len = self.size_bytes
        area.chunk_size = self.frame_size
        area.flags = <uint32_t>XDP_UMEM_TX_METADATA_LEN
        area.tx_metadata_len = sizeof(TxMetadataRequest)
        if setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &area, sizeof(area)):
            raise KernelError(
                f"setsockopt(XDP_UMEM_REG, {self.size_bytes} bytes, frames of {self.frame_size}, "
                f"{area.tx_metadata_len} of metadata)", errno,
                "raise `ulimit -l` or ask for less with --umem-size" if errno != EINVAL else "")
        self.tx_metadata_len = area.tx_metadata_len
        self._map_rings(fd)

    cdef int _offsets(self, xdp_mmap_offsets *offsets) except -1:
        cdef socklen_t size = sizeof(xdp_mmap_offsets)
        if getsockopt(self.descriptor(), SOL_XDP, XDP_MMAP_OFFSETS, offsets, &size):
            raise KernelError("getsockopt(XDP_MMAP_OFFSETS)", errno)
        return 0

    cdef int _map_rings(self, int fd) except -1:
        cdef xdp_mmap_offsets offsets
        cdef char *start
        self._offsets(&offsets)
        _map_ring(fd, &self._fill_map, XDP_UMEM_FILL_RING, self.fill_size, sizeof(uint64_t),
                  &offsets.fr, XDP_UMEM_PGOFF_FILL_RING)
        memset(&self.fill, 0, sizeof(self.fill))
        start = <char *>self._fill_map.start
        self.fill.mask = self.fill_size - 1
        self.fill.size = self.fill_size
        self.fill.producer = <uint32_t *>(start + offsets.fr.producer)
        self.fill.consumer = <uint32_t *>(start + offsets.fr.consumer)
        self.fill.flags = <uint32_t *>(start + offsets.fr.flags)
        self.fill.ring = start + offsets.fr.desc
        self.fill.cached_cons = self.fill_size
        _map_ring(fd, &self._completion_map, XDP_UMEM_COMPLETION_RING, self.completion_size,
                  sizeof(uint64_t), &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING)
        memset(&self.completion, 0, sizeof(self.completion))
        start = <char *>self._completion_map.start
        self.completion.mask = self.completion_size - 1
        self.completion.size = self.completion_size
        self.completion.producer = <uint32_t *>(start + offsets.cr.producer)
        self.completion.consumer = <uint32_t *>(start + offsets.cr.consumer)
        self.completion.flags = <uint32_t *>(start + offsets.cr.flags)
        self.completion.ring = start + offsets.cr.desc
        return 0

    cdef int map_tx(self, MetadataXsk xsk) except -1:
        """The socket's TX ring: made with its first attempt to bind, and kept for a further one."""
        cdef xdp_mmap_offsets offsets
        cdef char *start
        self._offsets(&offsets)
        if self._tx_map.start == NULL:
            _map_ring(self.descriptor(), &self._tx_map, XDP_TX_RING, xsk.tx_size,
                      sizeof(xdp_desc), &offsets.tx, XDP_PGOFF_TX_RING)
        memset(&xsk.tx, 0, sizeof(xsk.tx))
        start = <char *>self._tx_map.start
        xsk.tx.mask = xsk.tx_size - 1
        xsk.tx.size = xsk.tx_size
        xsk.tx.producer = <uint32_t *>(start + offsets.tx.producer)
        xsk.tx.consumer = <uint32_t *>(start + offsets.tx.consumer)
        xsk.tx.flags = <uint32_t *>(start + offsets.tx.flags)
        xsk.tx.ring = start + offsets.tx.desc
        xsk.tx.cached_cons = xsk.tx_size
        return 0

    def _check_open(self):
        if self._descriptor_and_one == 0:
            raise ValueError("the UMEM is closed")

    cdef void _unregister(self) noexcept:
        _unmap(&self._tx_map)
        _unmap(&self._completion_map)
        _unmap(&self._fill_map)
        if self._descriptor_and_one:
            c_close(self._descriptor_and_one - 1)
            self._descriptor_and_one = 0

    def close(self):
        """Unregister and unmap; safe to call again.  ValueError while a socket holds it."""
        self.require_unheld("the UMEM")
        self._unregister()
        Umem.close(self)

    def __dealloc__(self):
        self._unregister()


@cython.no_gc_clear
cdef class MetadataXsk(Xsk):
    """An `Xsk` on a `MetadataUmem`, with a TX ring and no RX ring."""

    def _bind_once(self, uint16_t flags):
        cdef MetadataUmem umem = self.umem
        cdef sockaddr_xdp address
        cdef bytes name = self.interface.encode()
        if self.rx_size or not self.tx_size:
            raise UsageError("a socket with metadata has a TX ring alone: rx_size=0, tx_size=...")
        umem.map_tx(self)
        memset(&address, 0, sizeof(address))
        address.sxdp_family = <uint16_t>AF_XDP
        address.sxdp_flags = flags
        address.sxdp_ifindex = if_nametoindex(name)
        address.sxdp_queue_id = self.queue
        if address.sxdp_ifindex == 0:
            return -ENODEV
        if bind(umem.descriptor(), <const sockaddr *>&address, sizeof(address)):
            return -errno
        self.fd = umem.descriptor()
        return 0


def encode(uint64_t launch_ns):
    """The metadata of a packet with this launch time, as bytes; for the tests."""
    cdef unsigned char frame[64]
    memset(frame, 0xFF, sizeof(frame))
    ask_launch(frame + 32, launch_ns)
    return frame[:32][32 - <int>sizeof(TxMetadataRequest):]
