"""What is asked of an AF_XDP socket by its descriptor.

Purpose: statistics, the kick of the TX ring and how much it moves, the mode that was granted.
Owner: the caller's thread; nothing is kept.
Frees: nothing.

Source relied on: net/xdp/xsk.c.
"""

from libc.errno cimport EAGAIN, EBUSY, EINTR, ENOBUFS, errno
from libc.stdint cimport uint32_t
from libc.string cimport memset

from xdpcap.clib.posix cimport MSG_DONTWAIT, getsockopt, sendto, setsockopt, socklen_t
from xdpcap.clib.libxdp cimport (
    SOL_XDP,
    XDP_OPTIONS,
    XDP_OPTIONS_ZEROCOPY,
    XDP_STATISTICS,
    xdp_options,
    xdp_statistics,
)

import errno as _errno

from xdpcap.errors import KernelError


cdef extern from *:
    """
    /* 6.18: include/uapi/linux/if_xdp.h */
    #ifndef XDP_MAX_TX_SKB_BUDGET
    #define XDP_MAX_TX_SKB_BUDGET 9
    #endif
    """
    int XDP_MAX_TX_SKB_BUDGET


cdef int read_statistics(int fd, xdp_statistics *out) noexcept nogil:
    """XDP_STATISTICS into out; kernels before 5.9 fill its first three words only."""
    cdef socklen_t size = sizeof(xdp_statistics)
    memset(out, 0, sizeof(xdp_statistics))
    if getsockopt(fd, SOL_XDP, XDP_STATISTICS, out, &size):
        return -errno
    return 0


cdef int kick_tx(int fd) noexcept nogil:
    """Tell the kernel that the TX ring has descriptors; 0, or -errno when it is final.

    EAGAIN: copy mode moved 32 descriptors and there are more (net/xdp/xsk.c,
    TX_BATCH_SIZE).  EBUSY, ENOBUFS: the device or the socket is full for now.
    """
    if sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0:
        return 0
    if errno in (EAGAIN, EBUSY, ENOBUFS, EINTR):
        return 0
    return -errno


cdef uint32_t raise_tx_budget(int fd, uint32_t batch) noexcept nogil:
    """Let copy mode move a batch a system call; how many it does (32, before 6.18 always)."""
    if batch > 32 and setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &batch, sizeof(batch)) == 0:
        return batch
    return 32


cdef str bind_hint(int number, str interface):
    """What to do about a bind(2) that failed."""
    return {
        _errno.EBUSY: "is another program using this queue?",
        _errno.EOPNOTSUPP: "the driver can't do this mode; try --zero-copy off",
        _errno.EINVAL: f"is the queue there (`ethtool -l {interface}`) and the mode right?",
        _errno.ENETDOWN: f"`ip link set {interface} up`",
        _errno.ENODEV: "the interface has gone",
        _errno.EPERM: "needs CAP_NET_RAW; run with sudo",
        _errno.ENOMEM: "raise `ulimit -l` or ask for less with --umem-size",
    }.get(number, "")


cdef bint granted_zero_copy(int fd) except? 1:
    """Whether a bound socket has zero-copy, by XDP_OPTIONS."""
    cdef xdp_options options
    cdef socklen_t size = sizeof(options)
    options.flags = 0
    if getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &size):
        raise KernelError("getsockopt(XDP_OPTIONS)", errno)
    return options.flags & XDP_OPTIONS_ZEROCOPY
