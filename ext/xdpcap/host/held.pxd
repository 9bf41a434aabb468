cdef class Held:
    cdef list holders
    cdef hold(self, str holder)
    cdef release(self, str holder)
    cdef int require_unheld(self, str what) except -1
