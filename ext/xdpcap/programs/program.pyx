"""The XDP program: load, attach, read counters, detach.

Purpose: one `Program` is one loaded object with its maps, and at most one attachment.
Owner: the control thread.
Frees: detach() and close(); a bpf_link also goes away with the process, kill -9
included, which a netlink attachment does not.

Source relied on: Documentation/bpf/libbpf; net/core/dev.c, dev_xdp_attach().
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from xdpcap.programs.object_file cimport (
    clock_of,
    find_counters,
    find_program,
    find_xsks_map,
    open_object,
)
from xdpcap.programs.settings cimport size_map, write_settings
from xdpcap.clib.abi cimport *
from xdpcap.clib.libbpf cimport *
from xdpcap.clib.posix cimport close_fd

import errno as _errno
import os
from collections import namedtuple

from xdpcap.programs.counters import bind_rings, read_verdicts
from xdpcap.programs.object_file import CLOCKS, library_messages
from xdpcap.errors import KernelError, UsageError
from xdpcap.host.kernel import possible_cpu_count


cdef extern from *:
    """
    /* linux/bpf.h from 6.3. */
    #define XDPCAP_DEV_BOUND_ONLY (1U << 6)
    """
    uint32_t BPF_F_XDP_DEV_BOUND_ONLY "XDPCAP_DEV_BOUND_ONLY"

VERIFIER_LOG_BYTES = 1 << 20
SAMPLED_BY = {"count": XDPCAP_SAMPLE_COUNT, "flow": XDPCAP_SAMPLE_FLOW}
UNMATCHED = {None: XDPCAP_FILTER_NONE, "pass": XDPCAP_FILTER_PASS, "drop": XDPCAP_FILTER_DROP}
MODE_FLAGS = {"native": XDP_FLAGS_DRV_MODE, "generic": XDP_FLAGS_SKB_MODE,
              "offload": XDP_FLAGS_HW_MODE}
# bpf_xdp_query()'s attach_mode: enum xdp_attached of linux/if_link.h.
ATTACHED = {0: None, 1: "native", 2: "generic", 3: "offload", 4: "multi"}

Attached = namedtuple("Attached", "prog_id name mode")
Attached.__doc__ = "An XDP program on an interface: its id, its name, the attach mode."


def program_name(uint32_t prog_id):
    """The name of a loaded program, at most 15 characters; "" when it has gone."""
    cdef bpf_prog_info info
    cdef uint32_t size = sizeof(info)
    cdef int fd = bpf_prog_get_fd_by_id(prog_id)
    if fd < 0:
        return ""
    memset(&info, 0, sizeof(info))
    err = bpf_obj_get_info_by_fd(fd, &info, &size)
    close_fd(fd)
    return "" if err else (<bytes>info.name).decode("ascii", "replace")


def attached_program(int ifindex):
    """The program on an interface as `Attached`, or None."""
    cdef bpf_xdp_query_opts opts
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    err = bpf_xdp_query(ifindex, 0, &opts)
    if err:
        raise KernelError(f"bpf_xdp_query(ifindex {ifindex})", err)
    prog_id = opts.prog_id or opts.drv_prog_id or opts.skb_prog_id or opts.hw_prog_id
    if not prog_id:
        return None
    return Attached(prog_id, program_name(prog_id), ATTACHED.get(opts.attach_mode, "?"))


def attach_hint(int number, str mode):
    """The usual cause of an attach error in a mode; "" if unknown."""
    return {
        _errno.EOPNOTSUPP: f"the driver has no {mode} XDP; try --attach generic",
        _errno.EINVAL: f"the driver refuses {mode} XDP now; LRO off and a smaller MTU may help",
        _errno.ERANGE: "the MTU is too large for native XDP; lower it or use --attach generic",
        _errno.ENODEV: "the interface has gone",
        _errno.EPERM: "needs CAP_NET_ADMIN and CAP_BPF; run with sudo",
        _errno.ENOSPC: "the driver has no spare queues for XDP; `ethtool -L` fewer",
    }.get(number, "")


cdef void _size_for_queues(bpf_map *map, uint32_t queue_count, bint foreign) noexcept:
    """Size a map for the queues, unless it is NULL; a user's map may be larger."""
    if map != NULL and not (foreign and bpf_map__max_entries(map) >= queue_count):
        bpf_map__set_max_entries(map, queue_count)


@cython.no_gc_clear
cdef class Program:
    """A loaded recording program and its maps.

    Parameters
    ----------
    path : str
        The compiled object (bpf/record.bpf.c, or one that follows bpf/xdpcap_abi.h).
    queue_count : int
        The number of receive queues of the device, which sizes the maps.
    clock : str
        The clock that stamps the packets: "monotonic" or "tai" (kernel 6.1).
    flow_hash : bool
        The program hashes each packet (bpf/flow_hash.h).
    driver_metadata : int
        XDPCAP_DRIVER_* bits: the metadata to query from the driver, in the build that can.
    device : int
        The interface index to bind the program to, which driver metadata requires
        (kernel 6.3); 0 for a program that can run on any device.
    sample, sample_by : int, str
        Record every n-th packet ("count"), or the packets of one flow in n ("flow").
    snaplen : int
        Bytes that mirror mode copies of a packet; 0 for all.
    dead_man_ms : int
        All packets are passed when the map `alive_fd` was not renewed for this long
        (kernel 5.5); 0 for never, and no such map.
    name : str
        The program's name in the object, "" for the only one.
    foreign : bool
        A user's own program (docs/custom-programs.md): no settings are written, its maps keep
        their size where that suffices for the queues, and its own settings name its clock.
    image, unmatched : bytes, str
        The object with a filter in it (packets.filter.splice) in place of the file's content,
        and the verdict on packets that don't match: "pass" or "drop".

    Raises UsageError for an object that lacks what a recording needs, KernelError with the
    last lines of the verifier's log when the kernel refuses it.
    """

    def __cinit__(self, str path not None, uint32_t queue_count=1, *, str clock="monotonic",
                  bint flow_hash=False, uint32_t driver_metadata=0, uint32_t device=0,
                  uint32_t sample=1, str sample_by="count", uint32_t snaplen=0,
                  uint32_t dead_man_ms=0, bytes image=None, str unmatched=None,
                  str name="xdpcap_record", bint foreign=False):
        cdef xdpcap_settings settings
        self.link_fd = -1
        self.fd = self.xsks_fd = self.counters_fd = self.bound_fd = self.rings_fd = -1
        self.alive_fd = -1
        self.has_descriptors = True
        self.path = path
        self.clock = clock
        self.foreign = foreign
        self.queue_count = queue_count
        self.object = open_object(path, foreign, image)
        self.program = find_program(self.object, path, name)
        self.name = bpf_program__name(self.program).decode()
        # SEC("?xdp") of a user's program turns autoload off.
        bpf_program__set_autoload(self.program, True)
        self.xsks = find_xsks_map(self.object, path, foreign)
        self.counters = find_counters(self.object)
        if foreign:
            self.clock = clock_of(self.object, path)
        else:
            for map_name in ("bound", "rings_map", "sample_left"):
                size_map(self.object, map_name, queue_count)
            memset(&settings, 0, sizeof(settings))
            settings.clock = CLOCKS[clock]
            settings.flow_hash = flow_hash
            settings.driver_metadata = driver_metadata
            settings.snaplen = snaplen
            settings.sample = sample
            settings.sample_by = SAMPLED_BY[sample_by]
            settings.dead_man_ms = dead_man_ms
            settings.filter = UNMATCHED[unmatched]
            write_settings(self.object, path, &settings)
        _size_for_queues(self.xsks, queue_count, foreign)
        _size_for_queues(self.counters, queue_count, foreign)
        if device:
            self._bind_to(device)
        # Cached here: later there may be no free descriptor to read /sys.
        possible_cpu_count()
        self._load()

    def _bind_to(self, uint32_t device):
        """Load the program for one device, whose driver it can then query."""
        bpf_program__set_ifindex(self.program, device)
        bpf_program__set_flags(
            self.program, bpf_program__flags(self.program) | BPF_F_XDP_DEV_BOUND_ONLY)

    def _map_fd(self, str name):
        cdef bpf_map *found = bpf_object__find_map_by_name(self.object, name.encode())
        return -1 if found == NULL else bpf_map__fd(found)

    def _load(self):
        """Load the object.  Overridden where the program is loaded by attach()."""
        self._set_log_buffers()
        err = bpf_object__load(self.object)
        if err:
            raise self._load_error(err)
        self._take_descriptors()

    def _set_log_buffers(self):
        """Allocate the buffer for the verifier's log."""
        cdef bpf_program *program = NULL
        self.log = <char *>calloc(1, VERIFIER_LOG_BYTES)
        if self.log == NULL:
            raise MemoryError
        # libbpf loads all programs of the object and stops at the first error: one buffer does.
        while True:
            program = bpf_object__next_program(self.object, program)
            if program == NULL:
                break
            bpf_program__set_log_buf(program, self.log, VERIFIER_LOG_BYTES)
        library_messages()

    def _load_error(self, int err):
        lines = self.log.decode("utf-8", "replace").strip().splitlines()
        log = " | ".join(line.strip() for line in lines[max(0, len(lines) - 4):])
        if log:
            reason = f"verifier: {log}"
        else:
            reason = f"libbpf: {library_messages() or 'no message'}"
        hint = {_errno.EPERM: "needs CAP_BPF and CAP_NET_ADMIN, or a larger `ulimit -l`; run with sudo",
                }.get(-err, reason)
        return KernelError(f"loading {os.path.basename(self.path)}", err, hint)

    def _take_descriptors(self):
        """Store the descriptors of the loaded program and its maps; free the log buffer."""
        free(self.log)
        self.log = NULL
        self.fd = bpf_program__fd(self.program)
        self.xsks_fd = -1 if self.xsks == NULL else bpf_map__fd(self.xsks)
        self.counters_fd = -1 if self.counters == NULL else bpf_map__fd(self.counters)
        if self.foreign:
            return  # its other maps are not ours, whatever their names
        self.bound_fd = self._map_fd("bound")
        self.rings_fd = self._map_fd("rings_map")
        self.alive_fd = self._map_fd("alive")

    # -- attachment -------------------------------------------------------------------

    def attach(self, int ifindex, str mode not None, *, bint link=True):
        """Attach in `mode` ("native", "generic", "offload"), never replacing a program.

        `link`: through a bpf_link (kernel 5.9), else through netlink with
        XDP_FLAGS_UPDATE_IF_NOEXIST.  Raises KernelError; when another program is attached,
        UsageError naming it.
        """
        cdef bpf_link_create_opts opts
        cdef uint32_t flags = MODE_FLAGS[mode]
        self._check_open()
        self._check_unattached(ifindex)
        if link:
            memset(&opts, 0, sizeof(opts))
            opts.sz = sizeof(opts)
            opts.flags = flags
            result = bpf_link_create(self.fd, ifindex, BPF_XDP, &opts)
            if result >= 0:
                self.link_fd = result
        else:
            flags |= XDP_FLAGS_UPDATE_IF_NOEXIST
            result = bpf_xdp_attach(ifindex, self.fd, flags, NULL)
            self.netlink_flags = flags
        if result < 0:
            if -result in (_errno.EBUSY, _errno.EEXIST):
                self._check_unattached(ifindex)
            raise KernelError(f"attach({mode}, ifindex {ifindex})", result,
                              attach_hint(-result, mode))
        self.ifindex = ifindex
        self.attach_mode = mode

    def _check_unattached(self, int ifindex):
        """Raise UsageError if the interface has a program."""
        other = attached_program(ifindex)
        if other is not None:
            raise UsageError(
                f"an XDP program is already attached (id {other.prog_id}, name {other.name!r}, "
                f"{other.mode}); stop its owner, or `ip link set dev IFACE xdp off` if it is stale")

    def detach(self):
        """Detach this program from the interface; safe to call again."""
        cdef bpf_xdp_attach_opts opts
        if self.link_fd >= 0:
            close_fd(self.link_fd)
            self.link_fd = -1
        elif self.attach_mode is not None:
            # Only if it is still attached: XDP_FLAGS_REPLACE with its descriptor.
            memset(&opts, 0, sizeof(opts))
            opts.sz = sizeof(opts)
            opts.old_prog_fd = self.fd
            bpf_xdp_detach(self.ifindex, self.netlink_flags & ~XDP_FLAGS_UPDATE_IF_NOEXIST, &opts)
        self.attach_mode = None

    # -- maps ---------------------------------------------------------------------------

    def bind_queue(self, uint32_t queue, int xsk_fd):
        """Redirect a queue's packets to a socket."""
        cdef uint32_t yes = 1
        self._check_open()
        if bpf_map_update_elem(self.xsks_fd, &queue, &xsk_fd, BPF_ANY):
            raise KernelError(f"bpf_map_update_elem(xsks_map, queue {queue})", errno)
        if self.bound_fd >= 0:
            bpf_map_update_elem(self.bound_fd, &queue, &yes, BPF_ANY)

    def bind_ring(self, uint32_t queue, ring not None):
        """Copy a queue's packets into a ring (mirror mode): a `CopyRing` of this queue."""
        self._check_open()
        bind_rings(self.rings_fd, self.bound_fd, queue, ring)

    def release_queue(self, uint32_t queue):
        """Pass a queue's packets to the kernel stack again; never raises."""
        cdef uint32_t no = 0
        if self.bound_fd >= 0:
            bpf_map_update_elem(self.bound_fd, &queue, &no, BPF_ANY)
        bpf_map_delete_elem(self.xsks_fd, &queue)

    @property
    def has_counters(self):
        """Whether the program has our counters, for verdicts()."""
        return self.counters_fd >= 0

    def verdicts(self):
        """The program's counters, a `Verdicts` per queue, summed over the CPUs."""
        self._check_open()
        if self.counters_fd < 0:
            raise ValueError("the program has no counters map")
        return read_verdicts(self.counters_fd, self.queue_count)

    cdef int _check_open(self) except -1:
        if self.object == NULL:
            raise ValueError(f"the program {self.name} is closed")
        return 0

    def close(self):
        """Detach and unload; safe to call again."""
        self.detach()
        if self.object != NULL:
            bpf_object__close(self.object)
            self.object = NULL
            self.fd = self.xsks_fd = self.counters_fd = self.bound_fd = self.rings_fd = -1
            self.alive_fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __dealloc__(self):
        # Before __cinit__ the number is 0, and somebody else's.
        if self.has_descriptors and self.link_fd >= 0:
            close_fd(self.link_fd)
        if self.object != NULL:
            bpf_object__close(self.object)
        free(self.log)
