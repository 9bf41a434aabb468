"""Memory that a fork leaves out: what the kernel writes into or reads from by itself.

Purpose: no fork of this process, be it for a hook or a guardian, copies or shares such memory.
Owner: any thread.
Frees: nothing; the mapping's owner unmaps it.

Pages of a UMEM and registered buffers are pinned.  From Linux 5.9 on fork() copies each pinned
page for the child at once (mm/memory.c, copy_present_page()): it takes as long as copying the
whole area, while rings overflow.  Before that the pages were shared copy on write, and the next
write of this process moved it to a copy that no packet reaches and no disk reads.  The kernel
expects such memory to be left out (mm/huge_memory.c, copy_huge_pmd(): "userspace should use
MADV_DONTFORK upon pinned regions").  Rings are shared mappings and never copied, but a child
that lives on holds the socket, map or ring behind them: the queue would stay taken.

Source relied on: madvise(2), MADV_DONTFORK; net/xdp/xdp_umem.c, xdp_umem_pin_pages();
io_uring/rsrc.c; net/xdp/xsk.c, xsk_mmap().
"""

from libc.errno cimport errno
from libc.stdint cimport uintptr_t

from xdpcap.clib.posix cimport MADV_DONTFORK, _SC_PAGESIZE, madvise, sysconf

from xdpcap.errors import KernelError


cdef int leave_out_of_forks(void *start, size_t length, str what) except -1:
    """Leave a mapping out of forks; `what` names it for people."""
    if madvise(start, length, MADV_DONTFORK):
        raise KernelError(f"madvise({what}, MADV_DONTFORK)", errno)
    return 0


cdef int leave_ring_out_of_forks(void *first, const void *end, str what) except -1:
    """The same for a ring that a library has mapped: from its first index to its last entry.

    The indices stand in the mapping's first page.
    """
    cdef uintptr_t start = <uintptr_t>first & ~(<uintptr_t>sysconf(_SC_PAGESIZE) - 1)
    return leave_out_of_forks(<void *>start, <uintptr_t>end - start, what)
