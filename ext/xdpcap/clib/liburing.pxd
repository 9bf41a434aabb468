"""Declarations of liburing (liburing.h) and the kernel's io_uring.h; nothing else."""

from libc.stdint cimport int32_t, uint32_t, uint64_t


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "<liburing.h>" nogil:
    struct io_uring:
        int ring_fd

    struct io_uring_sqe:
        uint64_t user_data

    struct io_uring_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags

    struct __kernel_timespec:
        long long tv_sec
        long long tv_nsec

    int io_uring_queue_init(unsigned entries, io_uring *ring, unsigned flags)
    void io_uring_queue_exit(io_uring *ring)
    int io_uring_ring_dontfork(io_uring *ring)
    int io_uring_register_buffers(io_uring *ring, const iovec *iovecs, unsigned nr)
    io_uring_sqe *io_uring_get_sqe(io_uring *ring)
    void io_uring_prep_write_fixed(io_uring_sqe *sqe, int fd, const void *buf,
                                   unsigned nbytes, uint64_t offset, int buf_index)
    void io_uring_prep_write(io_uring_sqe *sqe, int fd, const void *buf,
                             unsigned nbytes, uint64_t offset)
    void io_uring_sqe_set_data64(io_uring_sqe *sqe, uint64_t data)
    uint64_t io_uring_cqe_get_data64(const io_uring_cqe *cqe)
    int io_uring_submit(io_uring *ring)
    int io_uring_peek_cqe(io_uring *ring, io_uring_cqe **cqe)
    int io_uring_wait_cqe_timeout(io_uring *ring, io_uring_cqe **cqe, __kernel_timespec *ts)
    void io_uring_cqe_seen(io_uring *ring, io_uring_cqe *cqe)
    unsigned io_uring_sq_ready(const io_uring *ring)
