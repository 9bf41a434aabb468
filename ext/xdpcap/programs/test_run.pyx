"""Run a loaded program on one packet, without a device (BPF_PROG_TEST_RUN).

Purpose: tests check the program's result; benchmarks measure its cost.
Owner: the calling thread.
Frees: nothing; the Program is the caller's.

Source relied on: Documentation/bpf/bpf_prog_run.rst; net/bpf/test_run.c,
bpf_prog_test_run_xdp().
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from xdpcap.programs.program cimport Program
from xdpcap.clib.libbpf cimport bpf_prog_test_run_opts, bpf_test_run_opts, xdp_md

from collections import namedtuple

from xdpcap.errors import KernelError

Run = namedtuple("Run", "action metadata packet")
Run.__doc__ = "A run's result: the action, the metadata before the packet, the packet."

cdef enum:
    OUT_BYTES = 70000


cdef class _Answer:
    cdef bpf_test_run_opts opts
    cdef xdp_md before, after
    cdef unsigned char[OUT_BYTES] out


cdef _Answer _run(Program program, bytes packet, uint32_t queue, int ifindex, int repeat):
    cdef _Answer a = _Answer()
    program._check_open()
    memset(&a.opts, 0, sizeof(a.opts))
    memset(&a.before, 0, sizeof(a.before))
    memset(&a.after, 0, sizeof(a.after))
    a.before.data_end = <uint32_t>len(packet)
    a.before.ingress_ifindex = ifindex
    a.before.rx_queue_index = queue
    a.opts.sz = sizeof(a.opts)
    a.opts.data_in = <const char *>packet
    a.opts.data_size_in = <uint32_t>len(packet)
    a.opts.ctx_in = &a.before
    a.opts.ctx_size_in = sizeof(a.before)
    a.opts.repeat = repeat
    if repeat == 1:
        a.opts.data_out = a.out
        a.opts.data_size_out = sizeof(a.out)
        a.opts.ctx_out = &a.after
        a.opts.ctx_size_out = sizeof(a.after)
    err = bpf_prog_test_run_opts(program.fd, &a.opts)
    if err:
        raise KernelError("BPF_PROG_TEST_RUN", err)
    return a


def run_once(Program program not None, bytes packet not None, *, uint32_t queue=0,
             int ifindex=0):
    """Run the program once on a packet; returns a `Run`.

    The packet arrives on the RX queue `queue` of the device `ifindex`.  The metadata is b"" when
    the program wrote none.
    """
    cdef _Answer a = _run(program, packet, queue, ifindex, 1)
    # The context's fields are offsets from the metadata's start.
    data = (<const char *>a.out)[:a.opts.data_size_out]
    return Run(a.opts.retval, data[:a.after.data], data[a.after.data:])


def run_action(Program program not None, bytes packet not None):
    """The action for a packet on queue 0 of an unspecified device.

    Passes no context, which kernels before 5.14 do not accept for XDP.
    """
    cdef _Answer a = _Answer()
    program._check_open()
    memset(&a.opts, 0, sizeof(a.opts))
    a.opts.sz = sizeof(a.opts)
    a.opts.data_in = <const char *>packet
    a.opts.data_size_in = <uint32_t>len(packet)
    a.opts.repeat = 1
    err = bpf_prog_test_run_opts(program.fd, &a.opts)
    if err:
        raise KernelError("BPF_PROG_TEST_RUN", err)
    return a.opts.retval


def run_ns(Program program not None, bytes packet not None, int repeat, *,
           uint32_t queue=0, int ifindex=0):
    """The duration of one run in nanoseconds, the mean of `repeat` consecutive runs.

    The kernel reports whole nanoseconds.  It does not reset the packet between two runs, so the
    headroom for metadata is soon used up.
    """
    return _run(program, packet, queue, ifindex, repeat).opts.duration
