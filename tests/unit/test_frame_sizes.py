"""Which frames an interface needs, from its MTU and from who writes into them."""

from __future__ import annotations

import pytest

from xdpcap.options.frame_sizes import copy_room, longest_packet, zero_copy_frame, zero_copy_room


def test_the_longest_packet_has_a_header_and_two_vlan_tags() -> None:
    assert longest_packet(1500) == 1522


def test_a_copy_uses_all_but_the_headroom() -> None:
    assert copy_room(2048) == 1792


@pytest.mark.parametrize(("frame_size", "room"), [(2048, 1024), (4096, 3072), (512, 0)])
def test_a_nic_may_count_in_kibibytes_below_what_the_kernel_leaves(
    frame_size: int, room: int
) -> None:
    assert zero_copy_room(frame_size) == room


@pytest.mark.parametrize(
    ("mtu", "wanted", "frame_size"),
    [
        (1500, None, 4096),  # what virtio_net and igb lose with frames of 2048
        (1002, None, 2048),
        (1003, None, 4096),
        (3050, None, 4096),
        (3051, None, None),
        (1500, 2048, None),
        (1500, 4096, 4096),
        (1000, 2048, 2048),
    ],
)
def test_zero_copy_takes_the_smaller_frame_that_holds_every_packet(
    mtu: int, wanted: int | None, frame_size: int | None
) -> None:
    assert zero_copy_frame(mtu, wanted) == frame_size
