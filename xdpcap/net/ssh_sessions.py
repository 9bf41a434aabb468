"""Who lies above a link, by which link an address is reached, and from where somebody is here by
SSH: what the guards of recording and sending go by.

Reads links, routes, addresses and neighbours of the calling thread's network namespace, over
netlink; changes nothing, sends nothing.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from xdpcap.net.routes import RTN_UNICAST

IFF_LOOPBACK = 0x8
ENVIRON_MAX_ANCESTORS = 16
SSH_PORT = 22
TCP_ESTABLISHED = "01"
NO_MAC = bytes(6)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class SshSession:
    """The ends of one, as sshd tells them: the client's, then this host's."""

    client: Address
    client_port: int
    server: Address
    server_port: int


@dataclass(frozen=True)
class Way:
    """How packets to an address leave: by which link, to whom, from which of our addresses."""

    index: int
    next_hop: Address
    own: Address | None


def all_links(ipr: IPRoute) -> dict[int, Any]:
    """Each link's message, by index."""
    return {message["index"]: message for message in ipr.get_links()}


def everything_above(index: int, messages: Mapping[int, Any]) -> list[int]:
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


def way_to(ipr: IPRoute, address: Address) -> Way | None:
    """How a packet to that address would leave; None if not at all, or only by lo."""
    try:
        routes = list(ipr.route("get", dst=str(address).split("%", maxsplit=1)[0]))
    except NetlinkError:
        return None
    for route in routes:
        index = route.get_attr("RTA_OIF")
        if route["type"] == RTN_UNICAST and index:
            message = ipr.link("get", index=index)[0]
            if not message["flags"] & IFF_LOOPBACK:
                hop = parse_address(route.get_attr("RTA_GATEWAY") or "")
                own = parse_address(route.get_attr("RTA_PREFSRC") or "")
                return Way(int(index), hop or address, own)
    return None


def addresses_of(ipr: IPRoute, index: int) -> set[Address]:
    """The addresses of this host on a link."""
    found = set()
    for message in ipr.get_addr(index=index):
        # On a point-to-point link IFA_ADDRESS is the far end, and IFA_LOCAL ours.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        address = parse_address(text) if text else None
        if address is not None:
            found.add(address)
    return found


def mac_of(ipr: IPRoute, way: Way) -> bytes:
    """The link layer's address of the next hop, zeros when the kernel does not know it."""
    for neighbour in ipr.get_neighbours(ifindex=way.index, dst=str(way.next_hop)):
        return parse_mac(neighbour.get_attr("NDA_LLADDR"))
    return NO_MAC


def parse_mac(text: str | None) -> bytes:
    """The octets of "02:00:..", zeros for none or one of another length."""
    octets = bytes.fromhex((text or "").replace(":", ""))
    return octets if len(octets) == len(NO_MAC) else NO_MAC


def parse_address(text: str) -> Address | None:
    """An address without its zone, an IPv4 one in IPv6 clothes as IPv4; None when it is none."""
    try:
        address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def ssh_session(environ: Mapping[str, str] | None = None) -> SshSession | None:
    """The session of SSH_CONNECTION ("client port server port"), None without one.

    It is looked for in `environ`, by default in this process and then in the ones that started
    it, because sudo does not hand the variable on.
    """
    text = environ.get("SSH_CONNECTION") if environ is not None else _of_this_process()
    fields = (text or "").split()
    if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        return None
    client, server = parse_address(fields[0]), parse_address(fields[2])
    if client is None or server is None:
        return None
    return SshSession(client, int(fields[1]), server, int(fields[3]))


def established_to(port: int = SSH_PORT) -> list[SshSession]:
    """The TCP connections of the thread's namespace that somebody has to this port of ours.

    A shell in a terminal multiplexer has the SSH_CONNECTION of the day that it was started on;
    the sockets are those of now. Source relied on: net/ipv4/tcp_ipv4.c, get_tcp4_sock(), and
    net/ipv6/tcp_ipv6.c, get_tcp6_sock(): addresses are words of the machine's own order in hex.
    """
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        for line in lines:
            _, local, remote, state = line.split()[:4]
            ours, theirs = _table_end(local), _table_end(remote)
            if state == TCP_ESTABLISHED and ours[1] == port:
                found.append(SshSession(*theirs, *ours))
    return found


def _table_end(text: str) -> tuple[Address, int]:
    words, port = text.split(":")
    octets = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )
    address = parse_address(str(ipaddress.ip_address(octets)))
    assert address is not None
    return address, int(port, 16)


def _of_this_process() -> str | None:
    return os.environ.get("SSH_CONNECTION") or _of_ancestors()


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
