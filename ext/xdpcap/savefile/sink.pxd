from xdpcap.host.held cimport Held
from xdpcap.savefile.blocks cimport Sink


cdef class FileSink(Held):
    cdef Sink s
    cdef void *mapped
    cdef size_t mapped_bytes
    # Shared by the sinks of one pipe, so it must live as long as the longest of them.
    cdef object _lock_owner
    # The sink points into it.
    cdef object _times
    cdef void _free(self)
