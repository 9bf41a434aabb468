"""How a device hashes packets for RSS: the function and its key (ETHTOOL_GRSSH).

ioctl, as for everything that `ethtool.py` asks; it needs no privilege. A device without RSS
reads as None.

Source relied on: include/uapi/linux/ethtool.h, struct ethtool_rxfh; net/ethtool/ioctl.c,
ethtool_get_rxfh().
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xdpcap.net.ethtool import ask

ETHTOOL_GRSSH = 0x46
# The numbers of the functions are bits (enum hash functions in linux/ethtool_netlink.h).
TOEPLITZ, XOR, CRC32 = 1, 2, 4
# struct ethtool_rxfh before its array: command, context, sizes of table and key, function,
# transformation of the input (6.8; reserved before), three reserved octets, one word.
HEAD = struct.Struct("=IIIIBBxxI")


@dataclass(frozen=True)
class Rss:
    """`function` is one of the bits above or one that is not known here; `key` its key."""

    function: int
    input_xfrm: int
    key: bytes


def rss(name: str) -> Rss | None:
    """What the interface hashes with; None where it has no RSS that could be asked."""
    sizes = ask(name, "RSS", HEAD.pack(ETHTOOL_GRSSH, 0, 0, 0, 0, 0, 0))
    if sizes is None:
        return None
    _, _, entries, key_size, *_ = HEAD.unpack_from(sizes)
    request = HEAD.pack(ETHTOOL_GRSSH, 0, entries, key_size, 0, 0, 0)
    answer = ask(name, "RSS", request + bytes(4 * entries + key_size))
    if answer is None:
        return None
    *_, function, input_xfrm, _ = HEAD.unpack_from(answer)
    # The table of queues stands before the key.
    return Rss(function, input_xfrm, answer[HEAD.size + 4 * entries :][:key_size])
