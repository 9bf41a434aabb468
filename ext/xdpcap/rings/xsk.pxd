from libc.stdint cimport uint32_t, uint64_t

from xdpcap.host.held cimport Held
from xdpcap.rings.umem cimport Umem
from xdpcap.clib.libxdp cimport xsk_ring_cons, xsk_ring_prod, xsk_socket


cdef class Xsk(Held):
    cdef xsk_socket *handle
    # The socket's frames lie in the UMEM, so the UMEM must outlive it.
    cdef readonly Umem umem
    cdef xsk_ring_cons rx
    cdef xsk_ring_prod tx
    cdef str name               # of the socket, for people
    cdef bint holds_umem
    cdef readonly str interface
    cdef readonly uint32_t queue
    cdef readonly uint32_t rx_size
    cdef readonly uint32_t tx_size
    cdef readonly bint zero_copy
    cdef readonly bint multi_buffer
    cdef readonly bint need_wakeup
    cdef readonly int fd
    cdef uint64_t tx_outstanding
    cdef int _reap(self) except -1
    cdef _let_umem_go(self)
    cdef _receive(self, uint32_t limit, int timeout_ms)
    cdef _send(self, packets, double timeout_s)
    cdef _gather(self, uint32_t index, uint32_t count)
