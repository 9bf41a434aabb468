from libc.stdint cimport uint32_t

from xdpcap.clib.libbpf cimport bpf_map, bpf_object, bpf_program


cdef class Program:
    cdef bpf_object *object
    cdef bpf_program *program
    cdef char *log              # of the verifier, until the program is loaded
    cdef bint has_descriptors   # __cinit__ has set those below
    cdef int link_fd
    cdef uint32_t netlink_flags
    cdef readonly int ifindex
    cdef readonly str attach_mode
    cdef readonly str path
    cdef readonly str name
    cdef readonly bint foreign
    cdef readonly str clock
    cdef readonly uint32_t queue_count
    cdef readonly int fd
    cdef bpf_map *xsks
    cdef bpf_map *counters
    cdef int xsks_fd
    cdef readonly int counters_fd
    cdef int bound_fd
    cdef int rings_fd
    cdef readonly int alive_fd
    cdef int _check_open(self) except -1
