"""An XDP program that the NIC runs (offload), and that copies each packet to the host.

Purpose: load bpf/nic.bpf.c for a device, with its maps on the device, attach it, and count
the packets that it copied.  AF_XDP sockets can't receive from such a program.
Owner: the control thread.
Frees: as a `Program`.

Source relied on: kernel/bpf/offload.c; libbpf 1.1, src/libbpf.c,
bpf_map_is_offload_neutral().
"""

from libc.errno cimport errno
from libc.stdint cimport uint32_t

from xdpcap.programs.program cimport Program
from xdpcap.clib.abi cimport xdpcap_count
from xdpcap.clib.libbpf cimport *

from xdpcap.errors import KernelError

# The limit of a perf sample: XDPCAP_COPY_MAX of xdpcap_abi.h for perf rings.
COPY_MAX = 65000
PROGRAM = "xdpcap_look"


cdef class NicProgram(Program):
    """A `Program` of bpf/nic.bpf.c, run by `device`, or by the host's CPUs if that is 0.

    It has one set of rings, for `bind_ring()` with queue 0: one ring per CPU, shared by the
    packets of all queues, which are stamped there.
    """

    def _bind_to(self, uint32_t device):
        cdef bpf_map *each = NULL
        bpf_program__set_ifindex(self.program, device)
        while True:
            each = bpf_object__next_map(self.object, each)
            if each == NULL:
                return
            # The only type of map that stays on the host.
            if bpf_map__type(each) != BPF_MAP_TYPE_PERF_EVENT_ARRAY:
                bpf_map__set_ifindex(each, device)

    def set_snaplen(self, uint32_t snaplen):
        """Limit the bytes copied of each packet; 0 for the maximum."""
        cdef uint32_t key = 0, limit = min(snaplen or COPY_MAX, COPY_MAX)
        self._check_open()
        if bpf_map_update_elem(self._map_fd("snaplen"), &key, &limit, BPF_ANY):
            raise KernelError("bpf_map_update_elem(snaplen)", errno)

    @property
    def copied_count(self):
        """Packets copied, including copies that found their ring full."""
        cdef uint32_t key = 0
        cdef xdpcap_count count
        self._check_open()
        if bpf_map_lookup_elem(self._map_fd("copied"), &key, &count):
            raise KernelError("bpf_map_lookup_elem(copied)", errno)
        return count.packets
