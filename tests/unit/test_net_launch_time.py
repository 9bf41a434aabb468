"""What a device offers for launch times: the reading of the kernel's answers."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from xdpcap import net
from xdpcap.errors import KernelError
from xdpcap.net import driver_features, etf, ethtool

LOOPBACK = 1


# -- xsk-features -----------------------------------------------------------------------------


def answer(**attributes):
    """A reply to dev-get as the kernel encodes it, decoded again."""
    built = driver_features.DeviceMessage()
    built["cmd"], built["version"] = driver_features.NETDEV_CMD_DEV_GET, 1
    built["attrs"] = [(f"NETDEV_A_DEV_{name}", value) for name, value in attributes.items()]
    built.encode()
    decoded = driver_features.DeviceMessage(bytes(built.data))
    decoded.decode()
    return decoded


class FakeNetdev:
    """In place of `NetdevSocket`: what `says` is, or raises, for any device."""

    says: object = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def device(self, index):
        assert index == 7
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.mark.parametrize(
    ("says", "features", "offered"),
    [
        (answer(IFINDEX=7, XDP_FEATURES=43, XSK_FEATURES=0), 0, False),  # veth
        (answer(IFINDEX=7, XSK_FEATURES=3), 3, False),  # igc before 6.15
        (answer(IFINDEX=7, XSK_FEATURES=5), 5, True),  # igc
        (answer(IFINDEX=7, XSK_FEATURES=1 << 40 | 4), 1 << 40 | 4, True),  # bits to come
        (answer(IFINDEX=7, XDP_FEATURES=43), 0, False),  # 6.3 to 6.7
        (NetlinkError(errno.ENOENT), 0, False),  # no such family
        (NetlinkError(errno.EOPNOTSUPP), 0, False),
    ],
)
def test_a_device_offers_launch_time_when_its_bit_is_set(monkeypatch, says, features, offered):
    monkeypatch.setattr(FakeNetdev, "says", says)
    monkeypatch.setattr(driver_features, "NetdevSocket", FakeNetdev)
    assert driver_features.xsk_features(7) == features
    assert net.offers_launch_time(7) is offered


def test_an_error_of_the_kernel_is_one_and_no_answer(monkeypatch):
    monkeypatch.setattr(FakeNetdev, "says", NetlinkError(errno.EPERM))
    monkeypatch.setattr(driver_features, "NetdevSocket", FakeNetdev)
    with pytest.raises(KernelError, match=r"dev-get of interface 7: EPERM"):
        net.offers_launch_time(7)


def test_a_kernel_without_the_family_offers_nothing_and_nothing_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(driver_features, "FAMILY", "no-such-family")
    assert net.offers_launch_time(LOOPBACK) is False
    assert not caplog.records


def test_the_loopback_of_this_kernel_offers_no_launch_time():
    assert net.offers_launch_time(LOOPBACK) is False


# -- the queueing discipline ------------------------------------------------------------------


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def qdisc(kind, parent, flags=None):
    """An RTM_NEWQDISC as the kernel sends it, decoded by pyroute2."""
    body = struct.pack("=BxHiIII", 0, 0, 7, 0x80010000, parent, 0)
    body += attribute(1, kind.encode() + b"\0")
    if flags is not None:
        body += attribute(2, attribute(1, struct.pack("=iiI", 500_000, 11, flags)))
    message = tcmsg(struct.pack("=IHHII", 16 + len(body), 36, 2, 1, 1) + body)
    message.decode()
    return message


@pytest.mark.parametrize(
    ("message", "queue"),
    [
        (qdisc("etf", 0x00640002, 0b010), 1),  # parent 64:2
        (qdisc("etf", 0x00640001, 0b111), 0),
        (qdisc("etf", etf.TC_H_ROOT, 0b010), 0),
        (qdisc("etf", 0x00640002, 0b101), None),  # deadline mode, not offloaded
        (qdisc("etf", 0x00640002), None),
        (qdisc("fq_codel", 0x00640002), None),
    ],
)
def test_a_queue_keeps_launch_times_with_an_offloaded_etf_only(message, queue):
    assert etf.timed_queue(message) == queue


def test_the_loopback_has_no_queue_that_keeps_launch_times():
    assert net.timed_queues(LOOPBACK) == set()


# -- the PTP hardware clock -------------------------------------------------------------------


def test_the_loopback_has_no_hardware_clock():
    assert net.ptp_clock("lo") is None


@pytest.mark.parametrize(("index", "found"), [(0, 0), (3, 3), (-1, None)])
def test_the_clocks_number_is_the_phc_index_of_the_timestamping_info(monkeypatch, index, found):
    info = struct.pack("=IIi", ethtool.ETHTOOL_GET_TS_INFO, 0x5F, index) + bytes(32)
    assert len(info) == ethtool.TS_INFO.size
    monkeypatch.setattr(ethtool, "_answer", lambda *_: info)
    assert net.ptp_clock("eth7") == found


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(KernelError, match="ENODEV"):
        net.offers_launch_time(max(index for index, _ in socket.if_nameindex()) + 1000)
