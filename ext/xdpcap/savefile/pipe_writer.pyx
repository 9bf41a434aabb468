"""Blocks into a pipe: a reader that is slow is waited for, a stop bounds the wait.

Purpose: write() all of it, whatever the pipe takes at a time.
Owner: one worker thread, under the lock of the pipe.
Frees: nothing.

Source relied on: pipe(7), write(2).
"""

from libc.errno cimport EAGAIN, EINTR, EIO, ETIMEDOUT, errno
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <poll.h>
    #include <unistd.h>
    """
    ssize_t write(int fd, const void *buf, size_t n) nogil
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms) nogil
    short POLLOUT
    int atomic_load_int "__atomic_load_n"(int *p, int order) nogil
    int __ATOMIC_RELAXED

cdef enum:
    # How long a reader that has stopped reading may hold up a stop.
    STREAM_STOP_MS = 1000


cdef int stream_out(int fd, const unsigned char *data, uint64_t length, uint64_t *written,
                    int *stop_flag) noexcept nogil:
    """Write it all to a pipe; 0 or errno.  A stop waits a second for the reader."""
    cdef pollfd waiting
    cdef ssize_t n
    cdef int patience_ms = STREAM_STOP_MS
    waiting.fd = fd
    waiting.events = POLLOUT
    while length:
        if poll(&waiting, 1, 100) == 0:
            if stop_flag != NULL and atomic_load_int(stop_flag, __ATOMIC_RELAXED):
                patience_ms -= 100
                if patience_ms <= 0:
                    return ETIMEDOUT
            continue
        n = write(fd, data, length)
        if n > 0:
            data += n
            length -= <uint64_t>n
            written[0] += <uint64_t>n
        elif n < 0 and (errno == EAGAIN or errno == EINTR):
            continue
        else:
            return errno if n < 0 else EIO
    return 0
