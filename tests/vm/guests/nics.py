"""The NICs that a guest can have: pairs, joined to each other, that tests call rx0 and tx0.

A guest may have a pair of each kind; their addresses tell them apart (`zero_copy/nic_pair.py`).
virtio_net gives zero-copy only to a device that the IOMMU platform maps memory for
(virtqueue_dma_dev() in drivers/net/virtio_net.c), and takes a native program only with its own
receive offloads off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guests.cache import AskedWrongly

QUEUES = 4

_VIRTIO = (
    "disable-legacy=on,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off,"
    "rx_queue_size=1024,romfile="
)

# Each queue of a tap is one of the NIC's.  A bridge that hands its frames to netfilter drops
# those whose IP checksum is zero; the namespace is this guest's own.
_BRIDGE = """\
ip link set lo up
ip link add br0 type bridge mcast_snooping 0
for tap in tap-0 tap-1; do
    ip tuntap add $tap mode tap multi_queue
    echo 1 > /proc/sys/net/ipv6/conf/$tap/disable_ipv6
    ip link set $tap master br0 up
done
for table in /proc/sys/net/bridge/bridge-nf-call-*; do
    test ! -e "$table" || echo 0 > "$table"
done
echo 1 > /proc/sys/net/ipv6/conf/br0/disable_ipv6
ip link set br0 up"""


@dataclass(frozen=True)
class Nics:
    """One kind: `number` is in its addresses, `end` makes QEMU's arguments for one of the two
    from its name, its address and which of the two it is; `host` are commands for the network
    namespace that QEMU runs in."""

    title: str
    number: int
    end: Callable[[str, str, int], Sequence[str]] = lambda *_: ()
    host: str = ":"

    @property
    def macs(self) -> tuple[str, str]:
        """The addresses with which the guest finds the receiver and the sender."""
        first, second = (f"02:00:00:00:{self.number:02x}:{end:02x}" for end in (1, 2))
        return first, second

    @property
    def qemu(self) -> list[str]:
        """QEMU's arguments for the pair."""
        ends = enumerate(self.macs)
        return [w for end, mac in ends for w in self.end(f"nic{self.number}-{end}", mac, end)]


def _virtio(hub: int, options: str) -> Callable[[str, str, int], Sequence[str]]:
    return lambda name, mac, _: (
        *("-netdev", f"hubport,id={name},hubid={hub}"),
        *("-device", f"virtio-net-pci,netdev={name},mac={mac},{options}{_VIRTIO}"),
    )


def _virtio_mq(name: str, mac: str, end: int) -> Sequence[str]:
    tap = f"tap,id={name},ifname=tap-{end},script=no,downscript=no,queues={QUEUES},vhost=off"
    # By default a tap's queue is that of the CPU that sent to its guest last; RSS is what NICs do.
    queues = f"mq=on,rss=on,vectors={2 * QUEUES + 2},iommu_platform=on"
    device = f"virtio-net-pci,netdev={name},mac={mac},{queues},{_VIRTIO}"
    return "-netdev", tap, "-device", device


def _igb(name: str, mac: str, end: int) -> Sequence[str]:
    return (
        *("-netdev", f"hubport,id={name},hubid=3"),
        *("-device", f"pcie-root-port,id={name}-port,chassis={end + 1},slot={end + 1}"),
        *("-device", f"igb,netdev={name},bus={name}-port,mac={mac},romfile="),
    )


NICS = {
    "veth": Nics("veth", 0),
    "virtio": Nics("virtio_net, one queue", 1, _virtio(1, "iommu_platform=on,")),
    "virtio-mq": Nics("virtio_net, 4 queues", 4, _virtio_mq, _BRIDGE),
    "virtio-plain": Nics("virtio_net without iommu_platform", 2, _virtio(2, "")),
    "igb": Nics("igb", 3, _igb),
}


def kinds(names: str) -> tuple[str, ...]:
    """The kinds in "igb,virtio"; raises AskedWrongly for one that there is not."""
    chosen = tuple(dict.fromkeys(names.split(",")))
    for name in chosen:
        if name not in NICS:
            raise AskedWrongly(f"no NICs {name!r}; choose among {', '.join(NICS)}")
    return chosen
