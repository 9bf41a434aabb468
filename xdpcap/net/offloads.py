"""What will spoil a capture on this interface, and how to mend it.

Offloads change packets between the wire and the XDP program (LRO, hardware GRO, VLAN stripping),
or, on a veth pair, leave undone in the sender what a wire would have forced (checksums, VLAN tags,
segmentation). `spoilers` finds them and gives each the command that mends it; `OffloadFixes` does
what those commands do and puts it back.

Software GRO is not among them: native programs run before it, and the kernel leaves it out while
a generic program is attached (netif_elide_gro in net/core/gro.c). Nor is TSO of a veth's peer
under a native program: the kernel takes it away from the peer itself (veth_fix_features).

Reads in the calling thread's namespace, and in the peer's when it has a name; only `OffloadFixes`
changes anything.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from xdpcap.errors import XdpcapError
from xdpcap.host import kernel
from xdpcap.net import ethtool, netns
from xdpcap.net.link import Link, list_links, peer_of
from xdpcap.net.queues import channels
from xdpcap.options.frame_sizes import (
    ETH_HLEN,
    PAGE_FRAME,
    SHARED_INFO,
    XDP_PACKET_HEADROOM,
    copy_room,
    longest_packet,
)

logger = logging.getLogger(__name__)

# The name that `ethtool -K` takes -> the kernel's features behind it, as it resolves them.
GROUPS = {
    "large-receive-offload": ("rx-lro",),
    "rx-gro-hw": ("rx-gro-hw",),
    "rx-vlan-offload": ("rx-vlan-hw-parse",),
    "rx-vlan-stag-hw-parse": ("rx-vlan-stag-hw-parse",),
    "tx-checksumming": ("tx-checksum-*",),
    "tx-vlan-offload": ("tx-vlan-hw-insert",),
    "tx-vlan-stag-hw-insert": ("tx-vlan-stag-hw-insert",),
    "tcp-segmentation-offload": ("tx-tcp*-segmentation",),
    "tx-udp-segmentation": ("tx-udp-segmentation",),
}
OWN_REASONS = {
    "large-receive-offload": "packets of a stream arrive merged into one that was never on the "
    "wire, and a native attach may be refused",
    "rx-gro-hw": "the hardware merges packets of a stream into one that was never on the wire, "
    "and a native attach may be refused",
    "rx-vlan-offload": "the VLAN tag is taken off before the program sees the packet",
    "rx-vlan-stag-hw-parse": "the outer (802.1ad) VLAN tag is taken off before the program sees "
    "the packet",
}
PEER_REASONS = {
    "tx-checksumming": "packets sent by this host's sockets arrive with checksums not filled in",
    "tx-vlan-offload": "packets sent through a VLAN device arrive without their tag",
    "tx-vlan-stag-hw-insert": "packets sent through an 802.1ad VLAN device arrive without their "
    "tag",
}
GENERIC_PEER_REASONS = {
    "tcp-segmentation-offload": "TCP arrives in unsegmented pieces of up to 64 KiB, too large for "
    "a frame",
    "tx-udp-segmentation": "UDP sent with UDP_SEGMENT arrives in unsegmented pieces, too large "
    "for a frame",
}
# What takes a tag off, which a driver that tells of it loses nothing by.
TAG_OFFLOADS = {
    *("rx-vlan-offload", "rx-vlan-stag-hw-parse"),
    *("tx-vlan-offload", "tx-vlan-stag-hw-insert"),
}


@dataclass(frozen=True)
class Spoiler:
    """One thing that will spoil the capture.

    `feature` is ethtool's name for it, "channels" or "mtu". `netns` is where `interface` is:
    None for the namespace that was asked. `why` and `command` are for the reader, the command
    complete enough to paste. `fixable` says that `OffloadFixes` can do it.
    """

    feature: str
    interface: str
    netns: str | None
    why: str
    command: str
    fixable: bool


@dataclass(frozen=True)
class _Peer:
    """The other end of a veth pair, where it can be looked at."""

    netns: str | None
    link: Link


def features(name: str) -> dict[str, bool]:
    """Which offloads are active, by the kernel's names (`rx-gro-hw`, `tx-checksum-sctp`)."""
    return {key: feature.active for key, feature in ethtool.features(name).items()}


def spoilers(
    link: Link,
    attach_mode: str,
    frame_size: int,
    multi_buffer: bool,
    own_netns: str | None = None,
    *,
    queue_count: int | None = None,
    tags_told: bool = False,
) -> list[Spoiler]:
    """What will spoil a capture on `link`, gravest first; [] when nothing does.

    `attach_mode` is auto, native, generic or offload, wished for or granted (auto is taken for
    native, which it tries first). `frame_size` is the UMEM chunk in bytes, `multi_buffer` whether
    a packet may span several. `own_netns` is the name of the calling thread's namespace when the
    user's shell is in another one, so that the commands go to the right place. `queue_count` is
    how many receive queues there were before a program was attached, None for those there are.
    `tags_told`: the driver tells of VLAN tags that were taken off, and they are put back.
    """
    found = _mtu_spoilers(link, frame_size, multi_buffer, own_netns)
    if link.kind != "veth":
        reasons = _without_tags(OWN_REASONS, tags_told)
        if link.driver == "virtio_net" and attach_mode != "generic":
            found += _channel_spoilers(link, queue_count, own_netns)
        return found + _feature_spoilers(link.name, own_netns, None, reasons)
    peer = _peer(link)
    found += _veth_mtu_spoilers(link, peer, attach_mode, multi_buffer, own_netns)
    reasons = PEER_REASONS | (GENERIC_PEER_REASONS if attach_mode == "generic" else {})
    reasons = _without_tags(reasons, tags_told)
    if peer is None:
        return [*found, _unseen_peer(link, tags_told)]
    return found + _feature_spoilers(peer.link.name, own_netns, peer.netns, reasons)


def veth_native_mtu() -> int:
    """The largest MTU of a veth's *peer* that a native program without frags may be attached to.

    veth_xdp_set() in drivers/net/veth.c: a page, less headroom, skb_shared_info and Ethernet
    header. 3506 with 4 KiB pages (tried on 6.18: 3506 attaches, 3507 gives ERANGE).
    """
    return os.sysconf("SC_PAGE_SIZE") - XDP_PACKET_HEADROOM - SHARED_INFO - ETH_HLEN


class OffloadFixes:
    """Turns offloads off, remembers what they were, and puts them back: a `guardian.Change`.

    `own_netns` as given to `spoilers`: it is where the caller is already.
    One thread at a time. Restore after the program is detached: while a native program is on a
    veth the kernel keeps some of its peer's features out of reach. Each is logged with the
    command that turns it on again.
    """

    kind = "offloads"

    def __init__(self, found: Iterable[Spoiler], own_netns: str | None = None) -> None:
        self._found = list(found)
        self._own_netns = own_netns
        self._earlier: list[tuple[str | None, Spoiler, dict[str, bool]]] = []

    def apply(self) -> list[Spoiler]:
        """Mend what is fixable; returns the ones that are left, logging why."""
        left = []
        for spoiler in self._found:
            if not spoiler.fixable:
                left.append(spoiler)
                continue
            where = self._where(spoiler)
            try:
                earlier = netns.call_in(where, _turn_off, spoiler.interface, spoiler.feature)
            except XdpcapError as exc:
                logger.warning("could not turn off %s: %s", _what(spoiler), exc)
                left.append(spoiler)
                continue
            self._earlier.append((where, spoiler, earlier))
            undo = spoiler.command.removesuffix(" off") + " on"
            logger.info("turned off %s until the end; `%s` undoes it", _what(spoiler), undo)
        return left

    def plan(self) -> list[tuple[str | None, dict[str, Any], dict[str, bool]]]:
        """What `apply` would change, and how it is now, for `planned` in another process.

        Changes nothing.  To restore what was never changed is harmless.
        """
        planned = []
        for spoiler in self._found:
            if not spoiler.fixable:
                continue
            where = self._where(spoiler)
            with contextlib.suppress(XdpcapError):  # apply() will meet it again, and log it
                earlier = netns.call_in(where, _requested, spoiler.interface, spoiler.feature)
                planned.append((where, asdict(spoiler), earlier))
        return planned

    @classmethod
    def planned(
        cls, changes: Iterable[tuple[str | None, dict[str, Any], dict[str, bool]]]
    ) -> OffloadFixes:
        """The object that `plan` described, to restore from."""
        fixes = cls(())
        fixes._earlier = [(where, Spoiler(**plain), earlier) for where, plain, earlier in changes]
        return fixes

    def _where(self, spoiler: Spoiler) -> str | None:
        return None if spoiler.netns == self._own_netns else spoiler.netns

    def restore(self) -> None:
        """Put back what `apply` changed, last change first; harmless when done already.

        Never raises: what can't be put back is logged with the command that does it.
        """
        while self._earlier:
            where, spoiler, earlier = self._earlier.pop()
            try:
                netns.call_in(where, _put_back, spoiler.interface, earlier)
            except XdpcapError as exc:
                undo = spoiler.command.removesuffix(" off") + " on"
                logger.warning("%s stays off: %s; `%s`", _what(spoiler), exc, undo)
            else:
                logger.info("restored %s", _what(spoiler))


def _members(name: str, group: str) -> dict[str, ethtool.Feature]:
    """The active features of the interface that belong to one of GROUPS."""
    patterns = GROUPS[group]
    return {
        key: feature
        for key, feature in ethtool.features(name).items()
        if feature.active and any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
    }


def _requested(name: str, group: str) -> dict[str, bool]:
    """What is requested of the active features of a group that can be changed."""
    return {
        key: feature.requested
        for key, feature in _members(name, group).items()
        if feature.changeable
    }


def _turn_off(name: str, group: str) -> dict[str, bool]:
    """Turn a group off and check that it is; returns what was requested before."""
    earlier = _requested(name, group)
    ethtool.set_features(name, dict.fromkeys(earlier, False))
    still = sorted(_members(name, group))
    if still:
        ethtool.set_features(name, earlier)
        raise XdpcapError(f"the driver keeps {', '.join(still)} on")
    return earlier


def _put_back(name: str, earlier: dict[str, bool]) -> None:
    ethtool.set_features(name, earlier)
    now = ethtool.features(name)
    lost = sorted(key for key, on in earlier.items() if key in now and now[key].requested != on)
    if lost:
        raise XdpcapError(f"the driver refused {', '.join(lost)}")


def _feature_spoilers(
    name: str, own_netns: str | None, peer_netns: str | None, reasons: dict[str, str]
) -> list[Spoiler]:
    where = peer_netns or own_netns
    found = []
    for group, why in reasons.items():
        members = netns.call_in(peer_netns, _members, name, group)
        if members:
            command = netns.command_in(where, f"ethtool -K {name} {group} off")
            fixable = any(feature.changeable for feature in members.values())
            found.append(Spoiler(group, name, where, why, command, fixable))
    return found


def _mtu_spoilers(
    link: Link, frame_size: int, multi_buffer: bool, own_netns: str | None
) -> list[Spoiler]:
    """The MTU against one frame: two VLAN tags may come on top of an MTU's worth.

    With multi-buffer there is nothing to say: 18 buffers of 2048 hold more than any device's MTU
    in zero-copy mode, and in copy mode the kernel takes as many frames as the packet needs.
    """
    longest = longest_packet(link.mtu)
    room = copy_room(frame_size)
    if multi_buffer or longest <= room:
        return []
    why = (
        f"with MTU {link.mtu} a packet may have {longest} bytes; a frame of {frame_size} holds "
        f"{room}, and longer packets are lost"
    )
    if longest <= copy_room(PAGE_FRAME):
        command = f"--frame-size {PAGE_FRAME}"
    else:
        mtu = room - (longest - link.mtu)
        command = netns.command_in(own_netns, f"ip link set dev {link.name} mtu {mtu}")
    return [Spoiler("mtu", link.name, own_netns, why, command, False)]


def _veth_mtu_spoilers(
    link: Link, peer: _Peer | None, attach_mode: str, multi_buffer: bool, own_netns: str | None
) -> list[Spoiler]:
    """A native program on a veth is refused for its peer's MTU, not for its own."""
    mtu = link.mtu if peer is None else peer.link.mtu
    if multi_buffer or attach_mode not in ("auto", "native") or mtu <= veth_native_mtu():
        return []
    name = f"{link.name}'s peer" if peer is None else peer.link.name
    where = own_netns if peer is None else peer.netns or own_netns
    lost = "falls back to generic" if attach_mode == "auto" else "fails"
    why = f"MTU {mtu} is above {veth_native_mtu()}, so a native attach to {link.name} {lost}"
    command = f"ip link set dev {'PEER' if peer is None else name} mtu {veth_native_mtu()}"
    return [Spoiler("mtu", name, where, why, netns.command_in(where, command), False)]


def _channel_spoilers(link: Link, queue_count: int | None, own_netns: str | None) -> list[Spoiler]:
    """Queues that the driver adds while a native program is attached, for itself to send on.

    The device may deliver packets to them as well.  A socket on such a queue would be the end of
    the kernel: closing it makes Linux 7.2 stumble (virtnet_xdp_set(), virtnet_xsk_pool_setup()).
    """
    found = channels(link.name)
    now, most = queue_count or found.combined_count, found.max_combined
    if now + kernel.cpu_ids() > most:
        return []  # then it adds none, and sends under a lock
    why = (
        f"while a program is attached virtio_net receives on more queues than {now}; what lands "
        "there stays with the kernel and is in no file"
    )
    command = netns.command_in(own_netns, f"ethtool -L {link.name} combined {most}")
    return [Spoiler("channels", link.name, own_netns, why, command, False)]


def _without_tags(reasons: dict[str, str], tags_told: bool) -> dict[str, str]:
    return {k: why for k, why in reasons.items() if not (tags_told and k in TAG_OFFLOADS)}


def _peer(link: Link) -> _Peer | None:
    """The veth's other end; None when it is in a namespace that can't be named or entered."""
    try:
        index, netns_id = peer_of(link.name)
        where = None if netns_id is None else netns.name_of_id(netns_id)
        if netns_id is not None and where is None:
            return None
        links = netns.call_in(where, list_links)
    except XdpcapError:
        return None
    match = next((other for other in links if other.index == index), None)
    return None if match is None else _Peer(where, match)


def _unseen_peer(link: Link, tags_told: bool) -> Spoiler:
    offloads, lost, more = "checksum and VLAN", "checksums and VLAN tags", " tx-vlan-offload off"
    if tags_told:
        offloads, lost, more = "checksum", "checksums", ""
    return Spoiler(
        feature="tx-checksumming",
        interface=f"{link.name}'s peer",
        netns=None,
        why=f"it is in a namespace that can't be looked into: unless its {offloads} offload is "
        f"off, packets from its sockets arrive without {lost}",
        command=f"ethtool -K PEER tx-checksumming off{more}",
        fixable=False,
    )


def _what(spoiler: Spoiler) -> str:
    where = f" in namespace {spoiler.netns}" if spoiler.netns else ""
    return f"{spoiler.feature} of {spoiler.interface}{where}"
