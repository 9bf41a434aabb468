"""How long a packet a frame of UMEM takes, and which frames an interface needs.  A leaf.

Where the kernel copies, it keeps its headroom at the front and uses the rest
(xsk_pool_get_rx_frame_size() in include/net/xdp_sock_drv.h).  Where the NIC writes, less is
sure: newer kernels also keep room for an skb_shared_info at the end and round down to 128 bytes
(xsk_pool_get_tailroom()), and some NICs are told the length of their buffers in KiB (igb, the
82599 of ixgbe).  What is longer is lost without a trace in the socket's statistics (virtio_net
drops it), or comes as two packets (igb).  The kernel does not refuse to bind for it: seen on 7.2
with an MTU of 1500 and frames of 2048, of which virtio_net used 1408 bytes and igb 1024.
"""

from __future__ import annotations

PAGE_FRAME = 4096
DEFAULT_FRAME = 2048

XDP_PACKET_HEADROOM = 256
# SKB_DATA_ALIGN(sizeof(struct skb_shared_info)), 320 bytes on every 64-bit kernel there is.
SHARED_INFO = 320
BUFFER_UNIT = 1024

ETH_HLEN = 14
VLAN_TAG = 4


def longest_packet(mtu: int) -> int:
    """Bytes of the longest packet at this MTU: Ethernet header, two VLAN tags, the MTU's worth."""
    return mtu + ETH_HLEN + 2 * VLAN_TAG


def copy_room(frame_size: int) -> int:
    """Bytes of a packet that the kernel copies into one frame, from the Ethernet header on."""
    return frame_size - XDP_PACKET_HEADROOM


def zero_copy_room(frame_size: int) -> int:
    """Bytes of a packet that every driver lets its NIC write into one frame."""
    room = frame_size - XDP_PACKET_HEADROOM - SHARED_INFO
    return max(room, 0) // BUFFER_UNIT * BUFFER_UNIT


def chosen_frame(wanted: int | None) -> int:
    """Bytes of a frame: `wanted`, or the default."""
    return DEFAULT_FRAME if wanted is None else wanted


def zero_copy_frame(mtu: int, wanted: int | None) -> int | None:
    """The frame for zero-copy where a packet has to fit one: `wanted`, or by itself the smaller
    of two that is large enough; None when no such frame is."""
    sizes = (DEFAULT_FRAME, PAGE_FRAME) if wanted is None else (wanted,)
    fitting = (size for size in sizes if longest_packet(mtu) <= zero_copy_room(size))
    return next(fitting, None)
