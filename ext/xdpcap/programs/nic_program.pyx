"""A program that the NIC runs itself, and that copies each packet to the host.

Purpose: load bpf/nic.bpf.c for a device with maps that lie on the device, attach it, tell how
many packets it has copied.  AF_XDP can't be fed from such a program.
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

# A perf sample has no room for more: XDPCAP_COPY_MAX of xdpcap_abi.h for perf rings.
COPY_MAX = 65000
PROGRAM = "xdpcap_look"


cdef class NicProgram(Program):
    """As a `Program`, of bpf/nic.bpf.c: `device` runs it, or 0 for this machine's CPU.

    It has one set of rings, for `bind_ring()` with queue 0: the packets of all queues come
    through them, in a ring for each CPU, and are stamped there.
    """

    def _bind_to(self, uint32_t device):
        cdef bpf_map *each = NULL
        bpf_program__set_ifindex(self.program, device)
        while True:
            each = bpf_object__next_map(self.object, each)
            if each == NULL:
                return
            # The one kind that stays with the host.
            if bpf_map__type(each) != BPF_MAP_TYPE_PERF_EVENT_ARRAY:
                bpf_map__set_ifindex(each, device)

    def set_snaplen(self, uint32_t snaplen):
        """Have no more than so many bytes of a packet copied; 0 for all that fit."""
        cdef uint32_t only = 0, most = min(snaplen or COPY_MAX, COPY_MAX)
        self._check_open()
        if bpf_map_update_elem(self._map_fd("snaplen"), &only, &most, BPF_ANY):
            raise KernelError("bpf_map_update_elem(snaplen)", errno)

    @property
    def copied_count(self):
        """Packets that it has copied, whether or not the copies found room in a ring."""
        cdef uint32_t only = 0
        cdef xdpcap_count count
        self._check_open()
        if bpf_map_lookup_elem(self._map_fd("copied"), &only, &count):
            raise KernelError("bpf_map_lookup_elem(copied)", errno)
        return count.packets
