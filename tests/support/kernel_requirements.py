"""Which kernel a test needs, where that is newer than what the product needs.

    @MULTI_BUFFER
    def test_...

Such a test skips on older kernels; guests run the lab on all of them (tests/vm).  One that asks
for `blast` without it skips by itself (lab/conftest.py).
"""

from __future__ import annotations

import pytest

from xdpcap.host import kernel


def since(version: kernel.Version, what: str) -> pytest.MarkDecorator:
    """A mark for tests that need this kernel for `what`."""
    number = ".".join(map(str, version))
    return pytest.mark.skipif(kernel.version() < version, reason=f"{what}: Linux {number}")


# BPF_PROG_TEST_RUN took no xdp_md, and so no queue, before (net/bpf/test_run.c).
TEST_RUN = since((5, 15), "one packet through a program as from a queue")
# ethtool -l and -L of a veth (drivers/net/veth.c, veth_set_channels()).
VETH_CHANNELS = since((5, 15), "channels of a veth")
# BPF_F_XDP_HAS_FRAGS.
FRAGS = since((5, 18), "a program for packets of several buffers")
TAI = since((6, 1), "bpf_ktime_get_tai_ns()")
# bpf_xdp_load_bytes(), which the ring buffers of mirror mode are filled with.
RING_BUFFER = since((5, 18), "packets of any length in a ring buffer")
MULTI_BUFFER = since((6, 6), "packets of several frames")
# What a driver can be asked for is told (netdev family); a VLAN tag is among it.
DRIVER_TIMES = since((6, 6), "a driver's receive times")
DRIVER_HASH = since((6, 6), "a driver's hash")
DRIVER_TAGS = since((6, 8), "a driver's VLAN tags")
