"""Trace another XDP program: its input packets and its verdicts (fentry/fexit).

Purpose: attach bpf/observe.bpf.c to the entry or the exit of a loaded program, which stays
unchanged.
Owner: the control thread.
Frees: detach() and close(); the link also goes away with the process.

Source relied on: kernel/bpf/verifier.c, bpf_check_attach_target(); kernel/bpf/trampoline.c;
net/core/filter.c, bpf_xdp_output_proto.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from xdpcap.clib.abi cimport xdpcap_settings
from xdpcap.clib.libbpf cimport *
from xdpcap.clib.posix cimport close_fd

import errno as _errno
import os
from collections import namedtuple

from xdpcap.programs.object_file import CLOCKS, library_messages
from xdpcap.programs.counters import bind_rings, read_verdicts
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host.kernel import possible_cpu_count


cdef extern from *:
    """
    #include <linux/bpf.h>
    #include <string.h>
    /* The type, the BTF id and the main function of a program, which are needed to attach. */
    static int xdpcap_prog_info(int fd, struct bpf_func_info *first, __u32 *type, __u32 *btf_id)
    {
        struct bpf_prog_info info;
        __u32 size = sizeof(info);

        memset(&info, 0, sizeof(info));
        info.nr_func_info = 1;
        info.func_info_rec_size = sizeof(*first);
        info.func_info = (__u64)(unsigned long)first;
        if (bpf_obj_get_info_by_fd(fd, &info, &size))
            return -1;
        *type = info.type;
        *btf_id = info.btf_id;
        return info.nr_func_info;
    }
    """
    int prog_info "xdpcap_prog_info"(int fd, bpf_func_info *first, uint32_t *type,
                                     uint32_t *btf_id) nogil

LOG_BYTES = 1 << 20
FUNCTIONS = {"entry": "xdpcap_entry", "exit": "xdpcap_exit"}

Observed = namedtuple("Observed", "prog_id name")
Observed.__doc__ = "The traced program: its id, and its main function's name."


cdef int _open(uint32_t prog_id) except -1:
    cdef int fd = bpf_prog_get_fd_by_id(prog_id)
    if fd >= 0:
        return fd
    if fd == -_errno.ENOENT:
        raise UsageError(f"--xdp-hook {prog_id}: no program has this id; "
                         "`bpftool prog show type xdp` lists them")
    raise KernelError(f"bpf_prog_get_fd_by_id({prog_id})", fd, "run with sudo")


cdef str _main_function(int fd, uint32_t prog_id):
    """The full name of the program's main function; bpf_prog_info truncates it."""
    cdef bpf_func_info first
    cdef uint32_t kind = 0, btf_id = 0
    cdef const btf_type *function
    cdef btf *types
    memset(&first, 0, sizeof(first))
    if prog_info(fd, &first, &kind, &btf_id) < 0:
        raise KernelError(f"bpf_obj_get_info_by_fd(program {prog_id})", errno)
    if kind not in (BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_EXT):
        raise UsageError(f"--xdp-hook {prog_id}: this is not an XDP program; "
                         "`bpftool prog show type xdp` lists them")
    types = btf__load_from_kernel_by_id(btf_id) if btf_id else NULL
    if types == NULL:
        raise UsageError(f"--xdp-hook {prog_id}: the program has no BTF, which attaching needs; "
                         "compile it with `clang -g`")
    try:
        function = btf__type_by_id(types, first.type_id)
        if function == NULL:
            raise XdpcapError(f"--xdp-hook {prog_id}: its BTF does not name its main function")
        return btf__name_by_offset(types, function.name_off).decode("utf-8", "replace")
    finally:
        btf__free(types)


@cython.no_gc_clear
cdef class Observer:
    """Copies an XDP program's input (`at` "entry") or output packets ("exit") into rings.

    Parameters
    ----------
    path : str
        The compiled bpf/observe.bpf.c.
    prog_id : int
        The observed program, an XDP program with BTF (`bpftool prog show`).
    ifindex, queue_count : int
        The interface whose packets are copied; its number of receive queues.
    clock, snaplen : str, int
        The clock that stamps the packets, "monotonic" or "tai"; bytes copied of each, 0 for all.
    whole_length : bool
        The kernel reports the length of a multi-buffer packet (5.18).

    Raises UsageError for a program that can't be observed, KernelError when the kernel
    refuses; then nothing is attached.
    """

    cdef bpf_object *object
    cdef bpf_program *program
    cdef bpf_link *link
    cdef readonly int fd
    cdef readonly int counters_fd
    cdef int rings_fd
    cdef int bound_fd
    cdef readonly uint32_t queue_count
    cdef readonly str attach_mode
    cdef readonly object observed

    def __cinit__(self, str path not None, uint32_t prog_id, int ifindex, uint32_t queue_count,
                  *, str at="exit", str clock="monotonic", uint32_t snaplen=0,
                  bint whole_length=True):
        cdef int target
        self.fd = self.counters_fd = self.rings_fd = self.bound_fd = -1
        self.queue_count = queue_count
        target = _open(prog_id)
        try:
            self.observed = Observed(prog_id, _main_function(target, prog_id))
            self.object = bpf_object__open_file(os.fsencode(path), NULL)
            if self.object == NULL:
                raise XdpcapError(f"{path} is not a complete eBPF object (libbpf error {errno}); "
                                  "`make setup` rebuilds it")
            self._select_program(FUNCTIONS[at], target)
            for name, entries in (("counters", queue_count), ("bound", queue_count),
                                  ("rings_map", queue_count * possible_cpu_count())):
                bpf_map__set_max_entries(self._map(name), entries)
            self._write_settings(CLOCKS[clock], snaplen, ifindex, whole_length)
            # libbpf keeps only the target's number: it must stay open until the load.
            self._load()
        finally:
            close_fd(target)
        self._attach("fexit" if at == "exit" else "fentry")

    cdef bpf_map *_map(self, str name) except NULL:
        cdef bpf_map *found = bpf_object__find_map_by_name(self.object, name.encode())
        if found == NULL:
            raise XdpcapError(f"the observing program has no map {name}; `make setup` builds it anew")
        return found

    def _select_program(self, str name, int target):
        """Select one of the object's two programs for loading, with its attach target."""
        cdef bpf_program *program = bpf_object__next_program(self.object, NULL)
        while program != NULL:
            selected = bpf_program__name(program).decode() == name
            bpf_program__set_autoload(program, selected)
            if selected:
                self.program = program
            program = bpf_object__next_program(self.object, program)
        err = bpf_program__set_attach_target(self.program, target, self.observed.name.encode())
        if err:
            raise KernelError(f"looking up {self.observed.name} of program "
                              f"{self.observed.prog_id}", err, UNSUPPORTED)

    def _write_settings(self, uint32_t clock, uint32_t snaplen, uint32_t ifindex,
                        bint whole_length):
        cdef size_t size = 0
        cdef xdpcap_settings *settings = <xdpcap_settings *>bpf_map__initial_value(
            self._map(".rodata.settings"), &size)
        if settings == NULL or size < sizeof(xdpcap_settings):
            raise XdpcapError(f"the observing program has settings of {size} bytes; "
                              "`make setup` builds it anew")
        settings.clock = clock
        settings.snaplen = snaplen
        settings.cpus = possible_cpu_count()
        settings.device = ifindex
        settings.whole_length = whole_length

    def _load(self):
        cdef char *log = <char *>calloc(1, LOG_BYTES)
        if log == NULL:
            raise MemoryError
        try:
            bpf_program__set_log_buf(self.program, log, LOG_BYTES)
            err = bpf_object__load(self.object)
            if err:
                lines = log.decode("utf-8", "replace").strip().splitlines()
                raise self._error("loading", err, lines[max(len(lines) - 2, 0):])
        finally:
            free(log)
        self.fd = bpf_program__fd(self.program)
        self.counters_fd = bpf_map__fd(self._map("counters"))
        self.rings_fd = bpf_map__fd(self._map("rings_map"))
        self.bound_fd = bpf_map__fd(self._map("bound"))

    def _attach(self, str mode):
        self.link = bpf_program__attach_trace(self.program)
        if self.link == NULL:
            raise self._error("attaching", -errno, [])
        self.attach_mode = mode

    def _error(self, str operation, int err, log_lines):
        log = " | ".join(line.strip() for line in log_lines if line.strip())
        hint = f"verifier: {log}" if log else f"{UNSUPPORTED}; libbpf: {library_messages()}"
        return KernelError(
            f"{operation} an observer of {self.observed.name} (program {self.observed.prog_id})",
            err, hint)

    @property
    def has_counters(self):
        """Whether it has our counters, as for a `Program`."""
        return True

    def verdicts(self):
        """As for a `Program`: packets copied, lost to a full ring, not copied."""
        self._check_open()
        return read_verdicts(self.counters_fd, self.queue_count)

    def bind_ring(self, uint32_t queue, ring not None):
        """Copy a queue's packets into the perf rings of a `CopyRing`."""
        self._check_open()
        bind_rings(self.rings_fd, self.bound_fd, queue, ring)

    cdef int _check_open(self) except -1:
        if self.object == NULL:
            raise ValueError(f"the observer of {self.observed.name} is closed")
        return 0

    def detach(self):
        """Stop observing; safe to call again."""
        if self.link != NULL:
            bpf_link__destroy(self.link)
            self.link = NULL

    def close(self):
        """Detach and unload; safe to call again."""
        self.detach()
        if self.object != NULL:
            bpf_object__close(self.object)
            self.object = NULL
            self.fd = self.counters_fd = self.rings_fd = self.bound_fd = -1

    def __dealloc__(self):
        self.close()


UNSUPPORTED = ("this kernel can't observe programs: that needs fentry and fexit "
               "(Linux 5.6, CONFIG_BPF_EVENTS, BTF); record with --mirror instead")
