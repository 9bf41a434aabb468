"""The interfaces that recording would cut the administrator off from.

A redirected packet does not reach the kernel stack, so recording on the interface that carries
the default route or the SSH session takes the host off the network, unless a filter leaves the
host what it needs. `refusal` says so before anything is attached. Reads routes, addresses and
links of the calling thread's network namespace, over netlink; changes nothing, sends nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping

from pyroute2 import IPRoute

from xdpcap.errors import XdpcapError
from xdpcap.net import management_frames, netns
from xdpcap.net.link import Link, get_link
from xdpcap.net.routes import default_route_indexes
from xdpcap.net.ssh_sessions import (
    SshSession,
    Way,
    addresses_of,
    all_links,
    established_to,
    everything_above,
    ssh_session,
    way_to,
)

FAMILIES = ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6"))
# Looked up, never sent to (RFC 5737 and RFC 3849): a route that is spelled as two halves
# (0.0.0.0/1 and 128.0.0.0/1, as VPNs do) or that rests on a nexthop object is found this way.
ANYWHERE = {
    socket.AF_INET: ipaddress.ip_address("192.0.2.1"),
    socket.AF_INET6: ipaddress.ip_address("2001:db8::1"),
}

RECORDING = "a recorded packet does not reach this host's network stack"
SENDING = "what is sent there goes out beside this host's own traffic"

#: Whether a frame that the interface receives, without its checksums, is taken from the host.
Takes = Callable[[bytes], bool]


def require_up(link: Link, namespace: str | None) -> None:
    """Raise XdpcapError for an interface that is down; `namespace` is how it was named."""
    if not link.up:
        command = netns.command_in(namespace, f"ip link set {link.name} up")
        raise XdpcapError(f"{link.name} is down; `{command}`")


def refusal(
    name: str,
    environ: Mapping[str, str] | None = None,
    *,
    because: str = RECORDING,
    takes: Takes | None = None,
) -> str | None:
    """Why not to use the interface, in one line with the way out; None when nothing speaks
    against it.

    An interface is also refused when it lies under one that carries the route or the address (a
    bond's member, a bridge's port, a VLAN's or macvlan's device). `environ` is where
    SSH_CONNECTION is looked for: by default in this process and then in the ones that started
    it, because sudo does not hand the variable on. With `takes`, a filter, only what it takes
    speaks against the interface: packets of an SSH session, of either direction, or the answers
    that lead to the other end or to the gateway. Raises `UsageError` for an unknown interface.
    """
    link = get_link(name)
    with IPRoute() as ipr:
        messages = all_links(ipr)
        above = everything_above(link.index, messages)
        session = ssh_session(environ)
        if takes is not None:
            frames = management_frames.Frames(ipr, messages, above)
            return _filter_refusal(link.name, frames, session, takes)
        reason = _route_reason(ipr, above) or _ssh_reason(ipr, above, session)
    if reason is None:
        return None
    what, index = reason
    if index != link.index:
        what = f"is under {messages[index].get_attr('IFLA_IFNAME')}, which {what}"
    return f"{link.name} {what}, and {because}; choose another interface, or --force"


def _route_reason(ipr: IPRoute, above: list[int]) -> tuple[str, int] | None:
    for family, label in FAMILIES:
        carriers = _default_route_indexes(ipr, family)
        for index in above:
            if index in carriers:
                return f"carries the {label} default route", index
    return None


def _ssh_reason(
    ipr: IPRoute, above: list[int], session: SshSession | None
) -> tuple[str, int] | None:
    if session is None:
        return None
    for index in above:
        if session.server in addresses_of(ipr, index):
            return f"has the address of this SSH session ({session.server})", index
    # The address may sit elsewhere (on lo, say) while the session's packets come in here.
    towards = way_to(ipr, session.client)
    if towards is not None and towards.index in above:
        return f"is the way to this SSH session's client ({session.client})", towards.index
    return None


def _filter_refusal(
    name: str, frames: management_frames.Frames, session: SshSession | None, takes: Takes
) -> str | None:
    """Why not to record with this filter: what it would take from the host's lifeline."""
    ipr, above = frames.ipr, frames.above
    for each in dict.fromkeys([*([session] if session else []), *established_to()]):
        if _ssh_reason(ipr, above, each) is None:
            continue
        way = way_to(ipr, each.client)
        if any(map(takes, frames.of_session(each, way))):
            return (
                f"{name}: the filter takes packets of the SSH session from {each.client} from "
                f"this host; add `and not (host {each.client} and tcp port {each.client_port})`, "
                "or --force"
            )
        if way is not None and any(map(takes, frames.of_resolution(way, each.server))):
            return _unresolved(name, way, "SSH session")
    for family, label in FAMILIES:
        way = way_to(ipr, ANYWHERE[family])
        if way is None or way.index not in above:
            continue
        if any(map(takes, frames.of_resolution(way, way.own))):
            return _unresolved(name, way, f"{label} default route")
    return None


def _unresolved(name: str, way: Way, what: str) -> str:
    kind = "arp" if way.next_hop.version == 4 else "icmp6"
    return (
        f"{name}: the filter takes the answers from this host by which it finds "
        f"{way.next_hop}, where its {what} goes; add `and not {kind}`, or --force"
    )


def _default_route_indexes(ipr: IPRoute, family: socket.AddressFamily) -> set[int]:
    """The links of every default route in every table, and the one a packet would leave by."""
    towards = way_to(ipr, ANYWHERE[family])
    return default_route_indexes(family) | ({towards.index} if towards else set())
