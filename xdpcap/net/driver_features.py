"""What a device says it can do for AF_XDP sockets (its "xdp-features" and "xsk-features").

Asks the generic netlink family `netdev` (Documentation/netlink/specs/netdev.yaml) in the calling
thread's network namespace; changes nothing. The family came with Linux 6.3, the attribute with
6.8, the bit for launch time with 6.15: what is older offers nothing, which is an ordinary answer.
"""

from __future__ import annotations

import errno

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from xdpcap.errors import KernelError

FAMILY = "netdev"
NETDEV_CMD_DEV_GET = 1
# enum netdev_xdp_act, netdev_xdp_rx_metadata and netdev_xsk_flags, include/uapi/linux/netdev.h
XSK_ZEROCOPY = 8
RX_TIMESTAMP = 1
RX_HASH = 2
RX_VLAN_TAG = 4
TX_TIMESTAMP = 1
TX_CHECKSUM = 2
TX_LAUNCH_TIME_FIFO = 4


class DeviceMessage(genlmsg):  # type: ignore[misc]
    """The attribute set `dev` of the family, in the kernel's numbering."""

    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "hex"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        ("NETDEV_A_DEV_XDP_ZC_MAX_SEGS", "uint32"),
        ("NETDEV_A_DEV_XDP_RX_METADATA_FEATURES", "uint64"),
        ("NETDEV_A_DEV_XSK_FEATURES", "uint64"),
    )


class NetdevSocket(GenericNetlinkSocket):  # type: ignore[misc]
    """A socket of the family; close it.  A kernel without the family is an ENOENT."""

    def __init__(self) -> None:
        super().__init__()
        # pyroute2 would write to the log that the family is not there.
        self.asyncore.module_err_level = "debug"
        try:
            self.bind(FAMILY, DeviceMessage)
        except BaseException:
            self.close()
            raise

    def device(self, index: int) -> DeviceMessage:
        """What the kernel says of the device with this index."""
        message = DeviceMessage()
        message["cmd"], message["version"] = NETDEV_CMD_DEV_GET, 1
        message["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
        (answer,) = self.nlm_request(message, msg_type=self.prid, msg_flags=NLM_F_REQUEST)
        return answer


def xsk_features(index: int) -> int:
    """The device's xsk-features, a sum of the TX_ bits above; 0 where the kernel knows none."""
    return _features(index, "NETDEV_A_DEV_XSK_FEATURES")


def rx_metadata(index: int) -> int:
    """What the driver tells a program of a packet, a sum of the RX_ bits above.

    The attribute came with 6.6 and has the VLAN tag from 6.8; 0 before.
    """
    return _features(index, "NETDEV_A_DEV_XDP_RX_METADATA_FEATURES")


def claims_zero_copy(index: int) -> bool:
    """Whether the driver says that it has zero-copy, which it may refuse to a socket all the same.

    virtio_net does where the device's memory is not mapped by the IOMMU platform, and says so
    on interfaces whose native XDP is out of reach.
    """
    return bool(_features(index, "NETDEV_A_DEV_XDP_FEATURES") & XSK_ZEROCOPY)


def _features(index: int, attribute: str) -> int:
    try:
        with NetdevSocket() as netdev:
            return int(netdev.device(index).get_attr(attribute) or 0)
    except NetlinkError as exc:
        if exc.code in (errno.ENOENT, errno.EOPNOTSUPP):
            return 0
        raise KernelError(f"netdev dev-get of interface {index}", exc.code) from exc


def offers_launch_time(index: int) -> bool:
    """Whether the device's driver takes a launch time with a packet."""
    return bool(xsk_features(index) & TX_LAUNCH_TIME_FIFO)
