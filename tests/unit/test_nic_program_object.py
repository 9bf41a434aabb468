"""The program for a NIC uses nothing that its driver would refuse; nothing is loaded.

Source relied on: kernel/bpf/offload.c; drivers/net/ethernet/netronome/nfp/bpf/verifier.c and jit.c.
"""

from __future__ import annotations

import struct
from pathlib import Path

from xdpcap.packets.filter.splice import sections_of
from xdpcap.programs.builds import nic_variant

# include/uapi/linux/bpf.h and bpf_common.h.
CALL, ATOMIC_DW, BPF_ADD = 0x85, 0xDB, 0
BPF_FUNC_map_lookup_elem, BPF_FUNC_perf_event_output = 1, 25


def test_it_calls_and_keeps_only_what_a_device_knows() -> None:
    image = Path(nic_variant().path).read_bytes()
    found = {section.name: section for section in sections_of(image)}
    instructions = list(struct.iter_unpack("<BBhi", found["xdp"].content(image)))
    assert {imm for code, _, _, imm in instructions if code == CALL} == {
        BPF_FUNC_map_lookup_elem,
        BPF_FUNC_perf_event_output,
    }
    # Counted by addition in place, whose old value is not asked for (BPF_FETCH).
    assert [imm for code, _, _, imm in instructions if code == ATOMIC_DW] == [BPF_ADD] * 2
    # Global data would lie in a map with flags.
    assert not [name for name in found if name.startswith((".rodata", ".data", ".bss"))]
