"""Filter expressions made into classic BPF by libpcap, and run by its interpreter.

Purpose: the one place that knows pcap_compile() and bpf_filter().
Owner: any thread; an Interpreter never changes.
Frees: compile_expression() all that it made, an Interpreter its copy of the instructions.

Source relied on: pcap_compile(3PCAP), pcap-filter(7); libpcap's bpf_filter.c.
"""

from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.stdio cimport FILE, fclose
from libc.stdlib cimport free, malloc

from xdpcap.clib.libpcap cimport *

import struct

from xdpcap.errors import KernelError, UsageError

cdef extern from "<stdio.h>" nogil:
    FILE *fmemopen(void *buf, size_t size, const char *mode)

# struct pcap_file_header of a file without packets, in this machine's byte order.
_FILE_HEADER = struct.Struct("=IHHiIII")
_MAGIC = 0xA1B2C3D4

# Every instruction that bpf_filter() knows, by class: loads, stores, arithmetic (with K, with
# X, neg), jumps (with K, with X), returns, tax and txa.
OPCODES = frozenset([
    0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xB1, 0x02, 0x03,
    *range(0x04, 0x84, 0x10), *range(0x0C, 0x8C, 0x10), 0x84, 0x94, 0x9C, 0xA4, 0xAC,
    0x05, 0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D, 0x06, 0x16, 0x07, 0x87,
])


def compile_expression(str expression not None, uint32_t linktype, uint32_t snaplen):
    """What libpcap makes of an expression: a list of instructions (code, jt, jf, k).

    `linktype` is that of a capture file (LINKTYPE_ETHERNET is 1), `snaplen` in bytes: what
    matches returns it.  Names are looked up, for as long as the resolver takes.  Raises
    UsageError with libpcap's own message.
    """
    cdef bpf_program program
    cdef pcap_t *handle
    cdef int err
    cdef unsigned i
    text = _encoded(expression)
    cdef const char *words = text
    handle = _open(linktype, snaplen)
    try:
        with nogil:
            # Optimised, and with the network mask that `tcpdump -r` gives.
            err = pcap_compile(handle, &program, words, 1, 0)
        if err:
            raise UsageError(_one_line(pcap_geterr(handle)))
        try:
            return [(program.bf_insns[i].code, program.bf_insns[i].jt, program.bf_insns[i].jf,
                     program.bf_insns[i].k) for i in range(program.bf_len)]
        finally:
            pcap_freecode(&program)
    finally:
        pcap_close(handle)


cdef bytes _encoded(str expression):
    if "\0" in expression:
        raise UsageError("a NUL byte in the expression")
    # What the command line could not decode goes to libpcap as it came.
    return expression.encode("utf-8", "surrogateescape")


cdef str _one_line(const char *said):
    return " ".join((<bytes>said).decode("utf-8", "replace").split())


cdef pcap_t *_open(uint32_t linktype, uint32_t snaplen) except NULL:
    """A capture file without packets.

    Not pcap_open_dead(): with that libpcap takes `inbound` and the like for what a live Linux
    socket knows of a packet, and the code matches nothing.  With a file it says that
    they can't be told, as it does for `tcpdump -r`.
    """
    cdef char[256] error
    header = _FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, snaplen, linktype)
    cdef char *start = header
    cdef FILE *file = fmemopen(start, len(header), b"rb")
    if file == NULL:
        raise KernelError("fmemopen()", errno)
    # libpcap reads the header at once and nothing after it: `header` may go.
    cdef pcap_t *handle = pcap_fopen_offline_with_tstamp_precision(
        file, PCAP_TSTAMP_PRECISION_NANO, error)
    if handle == NULL:
        fclose(file)
        raise UsageError(_one_line(error))
    return handle


cdef class Interpreter:
    """Runs instructions on packets as libpcap does.

    `instructions` are (code, jt, jf, k).  Raises ValueError for what libpcap's bpf_validate()
    refuses, and for instructions that its interpreter does not know: on those it would abort
    the process.
    """

    def __cinit__(self, instructions not None):
        cdef size_t i
        cdef size_t count = len(instructions)
        self.insns = <bpf_insn *>malloc(max(count, 1) * sizeof(bpf_insn))
        if self.insns == NULL:
            raise MemoryError
        for i in range(count):
            (self.insns[i].code, self.insns[i].jt, self.insns[i].jf,
             self.insns[i].k) = instructions[i]
        known = all(code in OPCODES for code, *_ in instructions)
        if count > 0x7FFFFFFF or not known or not bpf_validate(self.insns, <int>count):
            raise ValueError("no valid classic BPF")

    def run(self, const unsigned char[::1] packet not None, uint32_t wire_len):
        """What the program returns for a packet: 0 when it does not match.

        `wire_len` is the packet's length on the wire in bytes; `packet` may be less of it.
        """
        cdef const unsigned char *data = NULL
        if packet.shape[0]:
            data = &packet[0]
        return bpf_filter(self.insns, data, wire_len, <uint32_t>packet.shape[0])

    def run_often(self, const unsigned char[::1] packet not None, uint32_t repeat):
        """What run() returns for a whole packet, after `repeat` runs of the interpreter."""
        cdef uint32_t length = <uint32_t>packet.shape[0]
        cdef const unsigned char *data = &packet[0] if length else NULL
        cdef uint32_t i
        cdef uint32_t found = 0
        with nogil:
            for i in range(repeat):
                found = bpf_filter(self.insns, data, length, length)
        return found

    def __dealloc__(self):
        free(self.insns)
