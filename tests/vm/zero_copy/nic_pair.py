"""A guest's two NICs as a lab: rx0 and tx0, each alone in a namespace, joined by a wire.

A `NicPair` has what tests want of a `Lab`: the names, indices and addresses of the ends, so the
same helpers start the command and send frames.  How many queues there are, and that the link
takes seconds to come up, is the NICs' own.

Owner: the thread that entered the context manager.  Frees: leaving it; the NICs go back to the
first namespace under their first names and addresses.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from guests.nics import NICS

from xdpcap import net
from xdpcap.bench.lab import in_netns, namespaces
from xdpcap.bench.lab.frames import RX_MAC, TX_MAC
from xdpcap.bench.lab.traffic import Sender

# igb's link is down for 2 to 3 s after each reset; emulated, and beside others, longer.
CARRIER_TIMEOUT_S = 30.0
# A NIC that is emulated takes what comes when it gets a CPU: no more at once than this.
BURST, PAUSE_S = 32, 0.01


class NicPair:
    """The NICs with the lab's addresses; `queues` are rx0's combined channels."""

    rx_name, tx_name = "rx0", "tx0"
    rx_mac, tx_mac = RX_MAC, TX_MAC
    mtu = peer_mtu = 1500
    generic = False

    def __init__(self, kind: str) -> None:
        self._first = [(_named_by(mac), mac) for mac in NICS[kind].macs]
        self.rx_ns, self.tx_ns = namespaces.new_names()

    def __enter__(self) -> NicPair:
        for (name, namespace, mac), (first, _) in zip(self._ends(), self._first, strict=True):
            namespaces.create(namespace)
            for scope in ("all", "default"):
                path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
                in_netns(namespace, path.write_text, "1")
            ip("link", "set", first, "down", "address", mac)
            ip("link", "set", first, "netns", namespace, "name", name)
            ip("-n", namespace, "link", "set", name, "arp", "off", "up")
        self.wait_up()
        most = in_netns(self.rx_ns, net.channels, self.rx_name).max_combined
        if most > self.queues:
            # Else virtio_net receives on queues of its own: test_guest_queues.py has that.
            self._set_channels(most)
        link = in_netns(self.rx_ns, net.get_link, self.rx_name)
        self.driver, self.rx_ifindex = link.driver, link.index
        self.tx_ifindex = in_netns(self.tx_ns, net.get_link, self.tx_name).index
        return self

    def __exit__(self, *exc: object) -> None:
        for (name, namespace, _), (first, mac) in zip(self._ends(), self._first, strict=True):
            ip("-n", namespace, "link", "set", name, "down", "address", mac)
            ip("-n", namespace, "link", "set", name, "netns", "1", "name", first)
            namespaces.remove(namespace)

    def _ends(self) -> list[tuple[str, str, str]]:
        return [
            (self.rx_name, self.rx_ns, self.rx_mac),
            (self.tx_name, self.tx_ns, self.tx_mac),
        ]

    @property
    def queues(self) -> int:
        """The receiver's queues, by ethtool."""
        return in_netns(self.rx_ns, net.rx_queue_count, self.rx_name)

    def tx_queue(self, queue: int) -> int:
        """As a lab's; which of the receiver's queues a frame reaches is not for the sender."""
        return queue

    def wait_up(self) -> None:
        """Return when both ends have a carrier, after a moment in which neither loses it."""
        for name, namespace, _ in self._ends():
            up = in_netns(namespace, net.wait_for_carrier, name, CARRIER_TIMEOUT_S)
            assert up, f"{name} has no carrier after {CARRIER_TIMEOUT_S:.0f} s"

    def statistics(self) -> dict[str, int]:
        """The receiver's own counters by ethtool -S, those that it shows."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.rx_ns, "ethtool", "-S", self.rx_name],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        pairs = (line.split(":") for line in done.stdout.splitlines()[1:] if ":" in line)
        return {name.strip(): int(value) for name, value in pairs}

    @contextlib.contextmanager
    def channels(self, combined: int) -> Iterator[None]:
        """So many combined channels at the receiver for a while."""
        before = self.queues
        self._set_channels(combined)
        try:
            yield
        finally:
            self._set_channels(before)

    def _set_channels(self, combined: int) -> None:
        command = ["ethtool", "-L", self.rx_name, "combined", str(combined)]
        subprocess.run(["ip", "netns", "exec", self.rx_ns, *command], check=True)
        self.wait_up()


def send(lab: NicPair, frames: Iterable[bytes]) -> int:
    """Send frames from tx0 at a pace that emulated NICs keep up with; returns how many."""
    sent = 0
    burst: list[bytes] = []
    with Sender(lab) as sender:
        for frame in frames:
            burst.append(frame)
            if len(burst) == BURST:
                sent += sender.send(burst)
                burst.clear()
                time.sleep(PAUSE_S)
        return sent + sender.send(burst)


def ip(*arguments: str) -> None:
    """ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


def _named_by(mac: str) -> str:
    for link in net.list_links():
        if link.mac == mac:
            return link.name
    raise LookupError(f"no interface has the address {mac}")
