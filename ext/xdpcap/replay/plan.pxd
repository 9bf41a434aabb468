from libc.stdint cimport int64_t, uint32_t, uint64_t


# When each packet of a set is due, ns after the start of the pass.
cdef class Plan:
    cdef int64_t *due
    cdef uint64_t count


# Which packets of a set go out of one queue, as indices.
cdef class Order:
    cdef uint32_t *index
    cdef uint64_t count
