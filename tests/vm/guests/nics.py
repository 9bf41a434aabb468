"""The NICs that a guest can have: two, joined to each other, that tests call rx0 and tx0.

Their addresses are those of the lab (xdpcap/lab/frames.py), by which the guest tells them apart.
virtio_net gives zero-copy only to a device that the IOMMU platform maps memory for
(virtqueue_dma_dev() in drivers/net/virtio_net.c), and takes a native program only with its own
receive offloads off.
"""

from __future__ import annotations

from dataclasses import dataclass

RX_MAC, TX_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
QUEUES = 4

_VIRTIO = (
    "disable-legacy=on,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off,"
    "rx_queue_size=1024,romfile="
)
_ENDS = (("a", RX_MAC, 1), ("b", TX_MAC, 2))

# Each queue of a tap is one of the NIC's.  A bridge that hands its frames to netfilter drops
# those whose IP checksum is zero; the namespace is this guest's own.
_BRIDGE = """\
ip link set lo up
ip link add br0 type bridge mcast_snooping 0
for tap in tap-a tap-b; do
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
    """`qemu`: arguments; `host`: commands for the network namespace that QEMU runs in."""

    title: str
    qemu: tuple[str, ...] = ()
    host: str = ":"


def _hub(device: str) -> tuple[str, ...]:
    words: list[str] = []
    for name, mac, slot in _ENDS:
        words += ["-netdev", f"hubport,id={name},hubid=0"]
        if device == "igb":
            words += ["-device", f"pcie-root-port,id=port-{name},chassis={slot},slot={slot}"]
            words += ["-device", f"igb,netdev={name},bus=port-{name},mac={mac},romfile="]
        else:
            words += ["-device", f"virtio-net-pci,netdev={name},mac={mac},{device}"]
    return tuple(words)


def _taps() -> tuple[str, ...]:
    words: list[str] = []
    for name, mac, _ in _ENDS:
        tap = f"tap,id={name},ifname=tap-{name},script=no,downscript=no,queues={QUEUES},vhost=off"
        device = f"mq=on,vectors={2 * QUEUES + 2},iommu_platform=on,{_VIRTIO}"
        words += ["-netdev", tap]
        words += ["-device", f"virtio-net-pci,netdev={name},mac={mac},{device}"]
    return tuple(words)


NICS = {
    "veth": Nics("veth"),
    "virtio": Nics("virtio_net, one queue", _hub(f"iommu_platform=on,{_VIRTIO}")),
    "virtio-mq": Nics("virtio_net, 4 queues", _taps(), _BRIDGE),
    "virtio-plain": Nics("virtio_net without iommu_platform", _hub(_VIRTIO)),
    "igb": Nics("igb", _hub("igb")),
}
