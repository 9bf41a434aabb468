"""Memory that loops without the GIL point into, and that can't be freed while they do.

Purpose: close() under a loop is an error that names the loop, and not a segmentation fault.
A loop object holds its socket, rings, sink and packets from when it is made to its own close().
Owner: hold(), release() and close() run with the GIL, in any thread.
Frees: nothing; the holder keeps a Python reference as well.
"""

cimport cython


@cython.no_gc_clear
cdef class Held:
    """The base of what is held.  `holders` are named for people, one entry each time."""

    def __cinit__(self):
        self.holders = []

    cdef hold(self, str holder):
        self.holders.append(holder)

    cdef release(self, str holder):
        # In a garbage cycle the collector empties the list before its objects are deallocated.
        if holder in self.holders:
            self.holders.remove(holder)

    cdef int require_unheld(self, str what) except -1:
        """ValueError while somebody holds it; `what` names it for people."""
        if self.holders:
            raise ValueError(f"{what} is in use by {self.holders[0]}; close that first")
        return 0
