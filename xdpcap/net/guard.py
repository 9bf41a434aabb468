"""The interfaces that recording would cut the administrator off from.

A redirected packet does not reach the kernel stack, so recording on the interface that carries
the default route or the SSH session takes the host off the network. `refusal` says so before
anything is attached. Reads routes, addresses and links of the calling thread's network namespace,
over netlink; changes nothing, sends nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from xdpcap.errors import XdpcapError
from xdpcap.net import netns
from xdpcap.net.link import Link, get_link
from xdpcap.net.routes import RTN_UNICAST, default_route_indexes

IFF_LOOPBACK = 0x8
FAMILIES = ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6"))
# Looked up, never sent to (RFC 5737 and RFC 3849): a route that is spelled as two halves
# (0.0.0.0/1 and 128.0.0.0/1, as VPNs do) or that rests on a nexthop object is found this way.
ANYWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
ENVIRON_MAX_ANCESTORS = 16

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


RECORDING = "a recorded packet does not reach this host's network stack"
SENDING = "what is sent there goes out beside this host's own traffic"


def require_up(link: Link, namespace: str | None) -> None:
    """Raise XdpcapError for an interface that is down; `namespace` is how it was named."""
    if not link.up:
        command = netns.command_in(namespace, f"ip link set {link.name} up")
        raise XdpcapError(f"{link.name} is down; `{command}`")


def refusal(
    name: str, environ: Mapping[str, str] | None = None, *, because: str = RECORDING
) -> str | None:
    """Why not to use the interface, in one line with the way out; None when nothing speaks
    against it.

    An interface is also refused when it lies under one that carries the route or the address (a
    bond's member, a bridge's port, a VLAN's or macvlan's device). `environ` is where
    SSH_CONNECTION is looked for: by default in this process and then in the ones that started
    it, because sudo does not hand the variable on. Raises `UsageError` for an unknown interface.
    """
    link = get_link(name)
    with IPRoute() as ipr:
        messages = {message["index"]: message for message in ipr.get_links()}
        above = _with_everything_above(link.index, messages)
        reason = _route_reason(ipr, above) or _ssh_reason(ipr, above, ssh_connection(environ))
    if reason is None:
        return None
    what, index = reason
    if index != link.index:
        what = f"is under {messages[index].get_attr('IFLA_IFNAME')}, which {what}"
    return f"{link.name} {what}, and {because}; choose another interface, or --force"


def ssh_connection(environ: Mapping[str, str] | None = None) -> str | None:
    """SSH_CONNECTION ("client port server port") of `environ`, or of this process's ancestry."""
    if environ is not None:
        return environ.get("SSH_CONNECTION")
    return os.environ.get("SSH_CONNECTION") or _of_ancestors()


def _route_reason(ipr: IPRoute, above: list[int]) -> tuple[str, int] | None:
    for family, label in FAMILIES:
        carriers = _default_route_indexes(ipr, family)
        for index in above:
            if index in carriers:
                return f"carries the {label} default route", index
    return None


def _ssh_reason(ipr: IPRoute, above: list[int], connection: str | None) -> tuple[str, int] | None:
    fields = (connection or "").split()
    if len(fields) != 4:
        return None
    client, server = _address(fields[0]), _address(fields[2])
    for index in above:
        if server is not None and server in _addresses(ipr, index):
            return f"has the address of this SSH session ({server})", index
    # The address may sit elsewhere (on lo, say) while the session's packets come in here.
    towards = _towards(ipr, client) if client is not None else None
    if towards in above:
        return f"is the way to this SSH session's client ({client})", int(towards or 0)
    return None


def _with_everything_above(index: int, messages: Mapping[int, Any]) -> list[int]:
    """The link itself and the ones that rest on it, nearest first."""
    found = [index]
    for lower in found:  # grows while it is walked
        for upper in _directly_above(lower, messages):
            if upper not in found:
                found.append(upper)
    return found


def _directly_above(lower: int, messages: Mapping[int, Any]) -> Iterable[int]:
    master = messages[lower].get_attr("IFLA_MASTER") if lower in messages else None
    if master is not None and master in messages:
        yield int(master)
    for index, message in messages.items():
        # A veth's IFLA_LINK is its peer, which rests on nothing. With a namespace id beside it,
        # the index is one of another namespace and means nothing here.
        if (
            message.get_attr("IFLA_LINK") == lower
            and message.get_attr("IFLA_LINK_NETNSID") is None
            and message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "veth"
        ):
            yield index


def _default_route_indexes(ipr: IPRoute, family: socket.AddressFamily) -> set[int]:
    """The links of every default route in every table, and the one a packet would leave by."""
    towards = _towards(ipr, ipaddress.ip_address(ANYWHERE[family]))
    return default_route_indexes(family) | ({towards} if towards else set())


def _towards(ipr: IPRoute, address: Address) -> int | None:
    """The link by which a packet to that address would leave, None if by none or by lo."""
    try:
        routes = list(ipr.route("get", dst=str(address).split("%", maxsplit=1)[0]))
    except NetlinkError:
        return None
    for route in routes:
        index = route.get_attr("RTA_OIF")
        if route["type"] == RTN_UNICAST and index:
            message = ipr.link("get", index=index)[0]
            if not message["flags"] & IFF_LOOPBACK:
                return int(index)
    return None


def _addresses(ipr: IPRoute, index: int) -> set[Address]:
    found = set()
    for message in ipr.get_addr(index=index):
        # On a point-to-point link IFA_ADDRESS is the far end, and IFA_LOCAL ours.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        address = _address(text) if text else None
        if address is not None:
            found.add(address)
    return found


def _address(text: str) -> Address | None:
    """An address without its zone, an IPv4 one in IPv6 clothes as IPv4; None when it is none."""
    try:
        address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _of_ancestors() -> str | None:
    """SSH_CONNECTION of the nearest process above this one whose environment has and shows it."""
    pid = os.getppid()
    for _ in range(ENVIRON_MAX_ANCESTORS):
        if pid <= 1:
            return None
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return None
        for variable in variables:
            key, _, value = variable.partition(b"=")
            if key == b"SSH_CONNECTION":
                return value.decode(errors="replace")
        pid = int(status.partition("\nPPid:")[2].split(maxsplit=1)[0])
    return None
