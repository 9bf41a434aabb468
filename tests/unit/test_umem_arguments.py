"""Sizes that can't work are refused before the kernel is asked, so these need no privileges."""

from __future__ import annotations

import pytest

from xdpcap.errors import UsageError
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk


@pytest.mark.parametrize("size", [0, 1, 1024, 2047, 3000, 8192, 65536])
def test_a_frame_size_that_is_no_power_of_two_up_to_a_page_is_refused(size):
    with pytest.raises(UsageError, match=f"frame size {size} is not a power of two between 2048"):
        Umem(1 << 20, frame_size=size)


@pytest.mark.parametrize("size", [0, 3, 4095, 4097])
@pytest.mark.parametrize("ring", ["fill", "completion"])
def test_a_ring_size_that_is_no_power_of_two_is_refused_by_name(ring, size):
    with pytest.raises(UsageError, match=f"{ring} ring size {size} is not a power of two"):
        Umem(1 << 20, **{f"{ring}_size": size})


@pytest.mark.parametrize("size", [0, 1, 2048, 4095, (1 << 20) + 2048])
def test_a_umem_that_is_no_whole_number_of_pages_is_refused(size):
    with pytest.raises(UsageError, match=f"UMEM of {size} bytes is not a multiple"):
        Umem(size)


def test_negative_sizes_are_refused():
    with pytest.raises(OverflowError):
        Umem(-4096)
    with pytest.raises(OverflowError):
        Umem(4096, frame_size=-2048)


def test_a_socket_without_a_umem_is_refused():
    with pytest.raises(TypeError, match="umem"):
        Xsk(None, "lo", 0)
