"""The lab's traffic source: XDP frames sent without an skb (BPF_PROG_TEST_RUN).

Purpose: numbered frames out of an interface at about 2 million a second from one
core, for tests and benchmarks.  Needs kernel 5.18 (BPF_F_TEST_XDP_LIVE_FRAMES).
Owner: the thread that calls; send() holds it without the GIL.
Frees: close().

Source relied on: Documentation/bpf/bpf_prog_run.rst, section "Running XDP programs
in live frame mode"; net/bpf/test_run.c.
"""

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from xdpcap.clib.libbpf cimport *

import os

from xdpcap.errors import KernelError, UsageError


cdef class Generator:
    """Sends copies of one frame, each with its number written into it.

    `template`: the frame, 14 to 3408 bytes (what a page of 4096 leaves beside the kernel's
    own state and the tail room of an skb) and at most MTU + 18, or it is dropped unseen;
    `number_offset`: where the 64-bit big-endian number stands, or -1 for none.
    The far end must have an XDP program or GRO on, or the frames are dropped.
    """

    cdef bpf_object *object
    cdef int fd
    cdef readonly bytes template

    def __cinit__(self, str path not None, int ifindex, bytes template not None, *,
                  int number_offset=42):
        cdef size_t size = 0
        cdef uint32_t *constants = NULL
        cdef bpf_map *rodata
        if len(template) < 14:
            raise UsageError(f"a frame of {len(template)} bytes is shorter than an Ethernet header")
        self.fd = -1
        self.template = template
        self.object = bpf_object__open_file(path.encode(), NULL)
        if self.object == NULL:
            raise KernelError(f"bpf_object__open_file({path})", errno)
        rodata = bpf_object__find_map_by_name(self.object, b".rodata")
        if rodata != NULL:
            constants = <uint32_t *>bpf_map__initial_value(rodata, &size)
        if constants == NULL or size < 2 * sizeof(uint32_t):
            raise KernelError(f"the constants of {os.path.basename(path)}", 22)
        # In the order of bpf/generator.bpf.c.
        constants[0] = 0xFFFFFFFF if number_offset < 0 else <uint32_t>number_offset
        constants[1] = ifindex
        err = bpf_object__load(self.object)
        if err:
            raise KernelError(f"loading {os.path.basename(path)}", err, "needs root")
        self.fd = bpf_program__fd(bpf_object__next_program(self.object, NULL))

    def send(self, int count, *, uint32_t batch=64):
        """Send `count` frames; returns when the last has left.  Raises KernelError.

        The kernel sends whole batches first and the rest last; its repeat count is
        exact.
        """
        cdef bpf_test_run_opts opts
        cdef xdp_md context
        cdef const char *data = self.template
        cdef int err
        if self.object == NULL:
            raise ValueError("the generator is closed")
        if count <= 0:
            return 0
        memset(&opts, 0, sizeof(opts))
        memset(&context, 0, sizeof(context))
        context.data_end = <uint32_t>len(self.template)
        opts.sz = sizeof(opts)
        opts.data_in = data
        opts.data_size_in = <uint32_t>len(self.template)
        opts.ctx_in = &context
        opts.ctx_size_in = sizeof(context)
        opts.repeat = count
        opts.flags = BPF_F_TEST_XDP_LIVE_FRAMES
        opts.batch_size = batch
        with nogil:
            err = bpf_prog_test_run_opts(self.fd, &opts)
        if err:
            raise KernelError("BPF_PROG_TEST_RUN(live frames)", err,
                              "needs kernel 5.18 and CAP_NET_ADMIN")
        return count

    def close(self):
        """Unload the program; safe to call again."""
        if self.object != NULL:
            bpf_object__close(self.object)
            self.object = NULL
            self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        if self.object != NULL:
            bpf_object__close(self.object)
