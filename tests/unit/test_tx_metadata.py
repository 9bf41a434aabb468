"""What is asked of the NIC with a packet, against the kernel's struct."""

from __future__ import annotations

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from xdpcap.rings.tx_metadata import encode

XDP_TXMD_FLAGS_LAUNCH_TIME = 1 << 2


class Request(ctypes.Structure):
    """xsk_tx_metadata.request, include/uapi/linux/if_xdp.h of 6.15."""

    _fields_ = (
        ("csum_start", ctypes.c_uint16),
        ("csum_offset", ctypes.c_uint16),
        ("launch_time", ctypes.c_uint64),
    )


class Completion(ctypes.Structure):
    _fields_ = (("tx_timestamp", ctypes.c_uint64),)


class Body(ctypes.Union):
    _fields_ = (("request", Request), ("completion", Completion))


class TxMetadata(ctypes.Structure):
    """struct xsk_tx_metadata."""

    _fields_ = (("flags", ctypes.c_uint64), ("body", Body))


@given(st.integers(0, 2**64 - 1))
def test_the_metadata_of_a_packet_are_the_kernels_struct_with_the_launch_time_alone(launch_ns):
    encoded = encode(launch_ns)
    assert len(encoded) == ctypes.sizeof(TxMetadata) == 24
    metadata = TxMetadata.from_buffer_copy(encoded)
    assert metadata.flags == XDP_TXMD_FLAGS_LAUNCH_TIME
    request = metadata.body.request
    assert (request.csum_start, request.csum_offset) == (0, 0)
    assert request.launch_time == launch_ns


def test_the_kernel_takes_no_other_length_than_a_multiple_of_eight_below_256():
    # net/xdp/xdp_umem.c, xdp_umem_reg()
    assert len(encode(0)) % 8 == 0 and len(encode(0)) < 256
