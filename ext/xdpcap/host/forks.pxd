cdef int leave_out_of_forks(void *start, size_t length, str what) except -1
cdef int leave_ring_out_of_forks(void *first, const void *end, str what) except -1
