"""Network links as the kernel tells of them: state, XDP program, promiscuity, changes.

Netlink and ethtool only. Every function asks in the network namespace of the calling thread and
keeps nothing open; `Promiscuous` and `LinkWatch` own one socket each, and whoever made them closes
them. Nothing here writes to an interface but `Promiscuous`.

Links are passed about by name and looked up anew, because an interface that is deleted and made
again keeps its name and not its index.
"""

from __future__ import annotations

import difflib
import errno
import socket
import struct
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.net import ethtool

IFF_UP = 0x1
IFF_LOWER_UP = 0x10000
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_PROMISC = 1

XDP_MODES = {
    "xdp": "native",
    "xdpgeneric": "generic",
    "xdpoffload": "offload",
    "xdpmulti": "multi",
}
# Where IFLA_XDP keeps the id: the first alone, the others when several modes are in use at once.
XDP_IDS = (
    "IFLA_XDP_PROG_ID",
    "IFLA_XDP_DRV_PROG_ID",
    "IFLA_XDP_SKB_PROG_ID",
    "IFLA_XDP_HW_PROG_ID",
)


@dataclass(frozen=True)
class Link:
    """One interface at the moment it was asked.

    `up` is IFF_UP, what the administrator wants; `carrier` is IFF_LOWER_UP, that it is up and the
    other end is there. `mtu` is in bytes without the Ethernet header. `speed_mbps` is None when
    unknown. `kind` is rtnetlink's ("veth", "bridge", "vlan"; "" for hardware). `promiscuity`
    counts those who asked for it. `xdp_mode` is native, generic, offload or multi; it and
    `xdp_prog_id` are None without a program.
    """

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    carrier: bool
    kind: str
    driver: str
    speed_mbps: int | None
    alias: str
    promiscuity: int
    xdp_prog_id: int | None
    xdp_mode: str | None


def get_link(name: str) -> Link:
    """The link of that name, or alternative name.

    Raises `UsageError` for an unknown one, with the nearest name and those that there are.
    """
    message = _find_message(name)
    if message is None:
        raise UsageError(_unknown(name))
    return _link(message)


def find_link(name: str) -> Link | None:
    """As `get_link`, but None for an interface that is not there (now)."""
    message = _find_message(name)
    if message is None:
        return None
    try:
        return _link(message)
    except XdpcapError:
        return None  # deleted between the two questions


def is_there(link: Link) -> bool:
    """Whether this very link exists, and not another one of its name."""
    now = find_link(link.name)
    return now is not None and now.index == link.index


def list_links() -> list[Link]:
    """Every link of this namespace, by index."""
    with IPRoute() as ipr:
        messages = list(ipr.get_links())
    links = []
    for message in messages:
        try:
            links.append(_link(message))
        except XdpcapError:
            continue  # deleted since the listing
    return sorted(links, key=lambda link: link.index)


def peer_of(name: str) -> tuple[int, int | None]:
    """The other end of a veth pair: its index, and the id of its namespace.

    The id is None when both ends are in this namespace; `netns.name_of_id` gives it a name. The
    index is one of the peer's namespace. Raises `UsageError` for anything that is not a veth.
    """
    message = _find_message(name)
    if message is None:
        raise UsageError(_unknown(name))
    index = message.get_attr("IFLA_LINK")
    if _kind(message) != "veth" or not index:
        raise UsageError(f"{name} is not one end of a veth pair and has no peer")
    return int(index), message.get_attr("IFLA_LINK_NETNSID")


def rx_queues_allocated(name: str) -> int | None:
    """IFLA_NUM_RX_QUEUES: the RX queues the kernel set aside, of which a driver may use fewer."""
    message = _find_message(name)
    return None if message is None else message.get_attr("IFLA_NUM_RX_QUEUES")


def rx_missed(name: str) -> int | None:
    """Packets that the interface has missed since it was made (rx_missed_errors), or None.

    The NIC had no room for them, so no program saw them (if_link.h, rtnl_link_stats64).
    """
    return _counter(name, "rx_missed_errors")


def tx_dropped(name: str) -> int | None:
    """Packets that the interface was given and has dropped since it was made, or None."""
    return _counter(name, "tx_dropped")


def _counter(name: str, which: str) -> int | None:
    message = _find_message(name)
    stats = None if message is None else message.get_attr("IFLA_STATS64")
    return None if stats is None else int(stats[which])


class Promiscuous:
    """Promiscuous mode for as long as this object is open.

    A membership (PACKET_MR_PROMISC) on a packet socket of protocol 0, which receives nothing. The
    kernel counts memberships by interface, so another program's promiscuous mode is neither
    needed nor undone, and it drops this one with the socket: at `close()`, and when the process
    ends in any way, kill -9 included. The interface being deleted ends it too; one that comes back
    under the same name needs a new object.

    Raises `UsageError` for an unknown interface, `KernelError` without CAP_NET_RAW.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        index = get_link(name).index
        self._socket: socket.socket | None = None
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            packet_socket = socket.socket(socket.AF_PACKET, kind, 0)
        except OSError as exc:
            raise KernelError("socket(AF_PACKET)", exc.errno or 0, _RAW_HINT) from exc
        # struct packet_mreq: ifindex, type, length of the address, address (not used by PROMISC).
        membership = struct.pack("=iHH8x", index, PACKET_MR_PROMISC, 0)
        try:
            packet_socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        except OSError as exc:
            packet_socket.close()
            call = f"setsockopt(PACKET_ADD_MEMBERSHIP, {name})"
            raise KernelError(call, exc.errno or 0, _RAW_HINT) from exc
        self._socket = packet_socket

    def close(self) -> None:
        """Give up the membership; harmless when it is gone already."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Promiscuous:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_RAW_HINT = "promiscuous mode needs CAP_NET_RAW"


def _find_message(name: str) -> Any | None:
    """The kernel's RTM_NEWLINK of an interface, asked by name and then by alternative name."""
    with IPRoute() as ipr:
        for attribute in ("ifname", "altname"):
            try:
                return ipr.link("get", **{attribute: name})[0]
            except NetlinkError as exc:
                # ERANGE: longer than a name may be. EINVAL: a kernel before 5.5 and an altname.
                if exc.code not in (errno.ENODEV, errno.ERANGE, errno.EINVAL):
                    raise KernelError(f"RTM_GETLINK({name})", exc.code) from exc
    return None


def _link(message: Any) -> Link:
    name = message.get_attr("IFLA_IFNAME")
    flags = message["flags"]
    prog_id, mode = _xdp(message.get_attr("IFLA_XDP"))
    return Link(
        name=name,
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        kind=_kind(message),
        driver=ethtool.driver(name),
        speed_mbps=ethtool.speed_mbps(name),
        alias=message.get_attr("IFLA_IFALIAS") or "",
        promiscuity=message.get_attr("IFLA_PROMISCUITY") or 0,
        xdp_prog_id=prog_id,
        xdp_mode=mode,
    )


def _kind(message: Any) -> str:
    return message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""


def _xdp(attribute: Any) -> tuple[int | None, str | None]:
    mode = XDP_MODES.get(attribute.get_attr("IFLA_XDP_ATTACHED")) if attribute else None
    if mode is None:
        return None, None
    ids = (attribute.get_attr(key) for key in XDP_IDS)
    return next((prog_id for prog_id in ids if prog_id), None), mode


def _unknown(name: str) -> str:
    with IPRoute() as ipr:
        there = [message.get_attr("IFLA_IFNAME") for message in ipr.get_links()]
    near = difflib.get_close_matches(name, there, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"no interface {name!r}{guess} (there are: {', '.join(there)})"
