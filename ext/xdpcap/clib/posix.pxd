"""Declarations of POSIX and Linux calls (time.h, poll.h, unistd.h, sys/*.h); nothing else."""

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int nanosleep(const timespec *ts, timespec *rest)
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
    int CLOCK_TAI
    int CLOCK_THREAD_CPUTIME_ID

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms)
    short POLLIN
    short POLLOUT

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *buf, size_t n)
    ssize_t write(int fd, const void *buf, size_t n)
    ssize_t pwrite(int fd, const void *buf, size_t n, long offset)
    int close_fd "close"(int fd)
    long sysconf(int name)
    int _SC_PAGESIZE

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void *addr, size_t length)
    int madvise(void *addr, size_t length, int advice)
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    int MAP_PRIVATE
    int MAP_ANONYMOUS
    int MAP_POPULATE
    int MAP_HUGETLB
    int MADV_HUGEPAGE
    int MADV_DONTFORK
    void *MAP_FAILED

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
    ssize_t sendto(int fd, const void *buf, size_t n, int flags, void *addr, socklen_t size)
    ssize_t recvfrom(int fd, void *buf, size_t n, int flags, void *addr, void *size)
    int MSG_DONTWAIT
    int SOL_SOCKET

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, ...)
    int PR_SET_TIMERSLACK

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned value, int flags)
    int EFD_NONBLOCK
    int EFD_CLOEXEC

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
