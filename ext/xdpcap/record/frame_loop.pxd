from xdpcap.record.state cimport CaptureState, Reason


cdef Reason run_record(CaptureState *c) noexcept nogil
cdef Reason run_drop(CaptureState *c) noexcept nogil
cdef void discard_all(CaptureState *c) noexcept nogil
cdef void abandon_all(CaptureState *c) noexcept nogil
