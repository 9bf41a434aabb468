"""The default routes of a network namespace, out of a routing table of any size.

A router's table has a million routes, of which this wants a handful: the kernel can't be asked for
them alone, so each message's fixed header is looked at, and only a default route is decoded.
(pyroute2's get_default_routes() ends at the first buffer without one.) Reads only; one socket,
closed before the answer.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_GETROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from xdpcap.errors import KernelError

RTN_UNICAST = 1
READ_BYTES = 1 << 18
# struct nlmsghdr: length, type, flags, sequence, port; struct rtmsg: family, dst_len, src_len, tos,
# table, protocol, scope, type, flags (linux/netlink.h, linux/rtnetlink.h).
NLMSGHDR = struct.Struct("=IHHII")
RTMSG = struct.Struct("=BBBBBBBBI")


def default_route_indexes(family: socket.AddressFamily) -> set[int]:
    """The interfaces by which a default route of any table leaves, over every one of its hops.

    Unreachable and blackhole routes lead nowhere and don't count. Raises `KernelError`.
    """
    found: set[int] = set()
    for route in _default_routes(family):
        found.add(route.get_attr("RTA_OIF") or 0)
        found.update(hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ())
    return found - {0}


def _default_routes(family: socket.AddressFamily) -> Iterator[rtmsg]:
    for message_type, message in _dump(family):
        if message_type != RTM_NEWROUTE:
            continue
        header = RTMSG.unpack_from(message, NLMSGHDR.size)
        if header[1] == 0 and header[7] == RTN_UNICAST:
            route = rtmsg(bytes(message))
            route.decode()
            yield route


def _dump(family: socket.AddressFamily) -> Iterator[tuple[int, memoryview]]:
    """Every message of an RTM_GETROUTE dump, by type."""
    body = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    size = NLMSGHDR.size + len(body)
    request = NLMSGHDR.pack(size, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as asking:
        asking.bind((0, 0))
        asking.send(request)
        while True:
            for message_type, message in _messages(asking.recv(READ_BYTES)):
                if message_type == NLMSG_DONE:
                    return
                if message_type == NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", message, NLMSGHDR.size)
                    raise KernelError("dump of the routes (RTM_GETROUTE)", number)
                yield message_type, message


def _messages(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """The netlink messages of one buffer; each begins on a multiple of 4 bytes."""
    view, offset = memoryview(data), 0
    while offset + NLMSGHDR.size <= len(data):
        length, message_type, *_ = NLMSGHDR.unpack_from(data, offset)
        if length < NLMSGHDR.size:
            return
        yield message_type, view[offset : offset + length]
        offset += (length + 3) & ~3
