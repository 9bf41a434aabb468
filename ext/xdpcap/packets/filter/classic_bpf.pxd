from xdpcap.clib.libpcap cimport bpf_insn


cdef class Interpreter:
    cdef bpf_insn *insns
