"""The lab: a receiver and a sender, each alone in a namespace, joined by a veth pair.

Owner: the thread that entered the context manager.
Frees: leaving the context manager, after an exception too; what a killed process left
is removed by `sweep`.

Source relied on: drivers/net/veth.c.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import Ethtool, IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from xdpcap.bench.lab import namespaces
from xdpcap.bench.lab.frames import RX_MAC, TX_MAC
from xdpcap.bench.lab.namespaces import in_netns
from xdpcap.errors import KernelError, UsageError
from xdpcap.net import netns

RX_NAME, TX_NAME = "rx0", "tx0"
# High, so that an index used in the wrong namespace names no interface there.
RX_IFINDEX, TX_IFINDEX = 7001, 7002
INDEX = {RX_NAME: RX_IFINDEX, TX_NAME: TX_IFINDEX}

# A veth takes its MTU up to ETH_MAX_MTU.
MTU_RANGE = range(68, 65536)

# What makes a local sender's bytes differ from the wire's: checksums and segmentation
# left to a device, and VLAN tags that travel beside the packet (ethtool -k's names).
_OFFLOADS = ("tx-checksum-", "tx-gso-list", "tx-vlan-", "rx-vlan-")

CARRIER_TIMEOUT_S = 5.0


class Lab:
    """Two namespaces and a veth pair that carries nothing but what is sent into it.

    Parameters
    ----------
    queues : int
        RX and TX queues at both ends.
    mtu, peer_mtu : int
        Bytes, of the receiver and of the sender (None: as the receiver).  Native XDP
        without multi-buffer looks at the sender's (veth_xdp_set()).
    offloads : bool
        Leave the kernel's offloads as they are.  Off by default, so that the bytes
        that a local socket sends are those of a wire.
    generic : bool
        Made for a generic program on several queues.  Without a native program a veth
        loses one in the count: netif_get_rxqueue() takes the number of the TX queue, q,
        for that of a recorded RX queue, which is stored plus one, and finds q - 1.  The
        sender gets one TX queue more, and native attach is refused (veth_xdp_set()).

    The receiver is the interface `rx0` in the namespace `rx_ns`, the sender `tx0` in
    `tx_ns`; `rx_ifindex` and `tx_ifindex` are their indices there, `rx_mac` and
    `tx_mac` their addresses.  The pair is silent: no IP address, no IPv6, no ARP.
    Raises UsageError for numbers that can't work, KernelError for what the kernel refuses.
    """

    rx_name, tx_name = RX_NAME, TX_NAME
    rx_mac, tx_mac = RX_MAC, TX_MAC
    rx_ifindex, tx_ifindex = RX_IFINDEX, TX_IFINDEX

    def __init__(
        self,
        queues: int = 1,
        mtu: int = 1500,
        peer_mtu: int | None = None,
        offloads: bool = False,
        *,
        generic: bool = False,
    ) -> None:
        if queues < 1:
            raise UsageError(f"a lab of {queues} queues; it needs at least 1")
        self.queues = queues
        self.mtu = mtu
        self.peer_mtu = mtu if peer_mtu is None else peer_mtu
        for value in (self.mtu, self.peer_mtu):
            if value not in MTU_RANGE:
                raise UsageError(f"an MTU of {value} is not between 68 and 65535")
        self.offloads = offloads
        self.generic = generic
        self.rx_ns, self.tx_ns = namespaces.new_names()

    def __enter__(self) -> Lab:
        try:
            namespaces.create(self.rx_ns)
            namespaces.create(self.tx_ns)
            self.make_link()
        except NetlinkError as exc:
            self.close()
            hint = "the kernel needs CONFIG_VETH" if exc.code == errno.EOPNOTSUPP else ""
            raise KernelError(f"making a veth of {self.queues} queues", exc.code, hint) from exc
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tx_queue(self, queue: int) -> int:
        """The sender's TX queue whose packets arrive on the receiver's RX queue `queue`."""
        return queue + 1 if self.generic else queue

    def close(self) -> None:
        """Remove the pair and both namespaces; safe to call again."""
        # A namespace is dismantled in the background; deleting the pair first makes its
        # end, and that of everything bound to it, visible on return.
        with contextlib.suppress(NetlinkError, UsageError, KernelError):
            in_netns(self.rx_ns, _delete_link, RX_NAME)
        namespaces.remove(self.rx_ns)
        namespaces.remove(self.tx_ns)

    def statistics(self) -> dict[str, int]:
        """Packets that left the sender, reached the receiver, and were lost between.

        Keys: tx_packets, tx_dropped, rx_packets, rx_dropped, as `ip -s link` counts
        them at tx0 and rx0.
        """
        sent = in_netns(self.tx_ns, _statistics, TX_NAME)
        received = in_netns(self.rx_ns, _statistics, RX_NAME)
        return {
            "tx_packets": sent["tx_packets"],
            "tx_dropped": sent["tx_dropped"],
            "rx_packets": received["rx_packets"],
            "rx_dropped": received["rx_dropped"],
        }

    def set_link(self, interface: str, up: bool) -> None:
        """Take `rx0` or `tx0` up or down."""
        in_netns(self._namespace_of(interface), _set_link, interface, up)

    def make_link(self) -> None:
        """Make the pair and bring it up, as at the start; again after `delete_link`."""
        in_netns(self.rx_ns, self._make_pair)
        steps = [_bring_up, _wait_up] if self.offloads else [_plain_bytes, _bring_up, _wait_up]
        for step in steps:
            in_netns(self.rx_ns, step, RX_NAME)
            in_netns(self.tx_ns, step, TX_NAME)

    def delete_link(self) -> None:
        """Delete the pair, as when a device is unplugged; the namespaces stay."""
        in_netns(self.rx_ns, _delete_link, RX_NAME)

    def _namespace_of(self, interface: str) -> str:
        return {RX_NAME: self.rx_ns, TX_NAME: self.tx_ns}[interface]

    def _make_pair(self) -> None:
        # Before the links are made, so that none of them ever sends a router solicitation.
        for name in (self.rx_ns, self.tx_ns):
            in_netns(name, _disable_ipv6)
        peer_ns = os.open(netns.path_of(self.tx_ns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with IPRoute() as ipr:
                ipr.link("add", **_veth_request(self, peer_ns))
        finally:
            os.close(peer_ns)


def _veth_request(lab: Lab, peer_ns: int) -> dict[str, Any]:
    """RTM_NEWLINK's attributes, written out: pyroute2's short form has no index for the peer."""
    peer_tx_queues = lab.queues + 1 if lab.generic else lab.queues
    peer = {
        "index": TX_IFINDEX,
        "attrs": [
            ["IFLA_IFNAME", TX_NAME],
            ["IFLA_ADDRESS", TX_MAC],
            ["IFLA_MTU", lab.peer_mtu],
            ["IFLA_NET_NS_FD", peer_ns],
            ["IFLA_NUM_RX_QUEUES", lab.queues],
            ["IFLA_NUM_TX_QUEUES", peer_tx_queues],
        ],
    }
    data = {"attrs": [["VETH_INFO_PEER", peer]]}
    return {
        "index": RX_IFINDEX,
        "ifname": RX_NAME,
        "address": RX_MAC,
        "mtu": lab.mtu,
        "num_rx_queues": lab.queues,
        "num_tx_queues": lab.queues,
        "IFLA_LINKINFO": {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", data]]},
    }


def _disable_ipv6() -> None:
    for scope in ("all", "default"):
        path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if path.exists():  # a kernel without IPv6 has nothing to turn off
            path.write_text("1")


def _bring_up(interface: str) -> None:
    with IPRoute() as ipr:
        ipr.link("set", index=INDEX[interface], arp=False, state="up")


def _plain_bytes(interface: str) -> None:
    with Ethtool() as ethtool:
        features = ethtool.get_features(interface)
        for name, feature in features.features.items():
            if name.startswith(_OFFLOADS) or name.endswith("-segmentation"):
                feature.enable = feature.enable and not feature.available
        ethtool.set_features(interface, features)


def _wait_up(interface: str) -> None:
    deadline = time.monotonic() + CARRIER_TIMEOUT_S
    with IPRoute() as ipr:
        while True:
            link = ipr.link("get", ifname=interface)[0]
            if link.get("state") == "up" and link.get("operstate") == "UP":
                return
            if time.monotonic() > deadline:
                raise KernelError(f"waiting for {interface} to come up", errno.ETIMEDOUT)
            time.sleep(0.005)


def _statistics(interface: str) -> dict[str, int]:
    with IPRoute() as ipr:
        return dict(ipr.link("get", ifname=interface)[0].get("stats64"))


def _set_link(interface: str, up: bool) -> None:
    with IPRoute() as ipr:
        ipr.link("set", index=INDEX[interface], state="up" if up else "down")


def _delete_link(interface: str) -> None:
    with IPRoute() as ipr:
        ipr.link("del", index=INDEX[interface])
