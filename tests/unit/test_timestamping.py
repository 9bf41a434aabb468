"""Receive time stamping of a NIC: what the kernel is asked and told, on a driver made up here."""

from __future__ import annotations

import errno
import struct

import pytest

from xdpcap import net
from xdpcap.errors import KernelError, XdpcapError
from xdpcap.net import ethtool, timestamping
from xdpcap.net.guardian import KINDS
from xdpcap.net.timestamping import SIOCGHWTSTAMP, SIOCSHWTSTAMP, ReceiveStamping

ALL = 1
PTP_ONLY = 12


class Driver:
    """Answers the two ioctls; `grants` is the filter that it makes of "all"."""

    def __init__(self, *config: int, grants: int = ALL) -> None:
        self.config, self.grants = config, grants
        self.asked: list[int] = []
        self.fails: dict[int, int] = {}

    def __call__(self, name: str, request: int, structure: bytes) -> bytes:
        assert name == "eth7"
        self.asked.append(request)
        if request in self.fails:
            raise OSError(self.fails[request], "made up")
        if request == SIOCSHWTSTAMP:
            flags, tx_type, rx_filter = struct.unpack("=iii", structure)
            self.config = (flags, tx_type, self.grants if rx_filter == ALL else rx_filter)
        return struct.pack("=iii", *self.config)


@pytest.fixture
def driver(monkeypatch):
    """Makes the driver of eth7."""

    def make(*config: int, **options: int) -> Driver:
        made = Driver(*config, **options)
        monkeypatch.setattr(timestamping, "_ioctl", made)
        return made

    return make


def test_what_is_turned_on_keeps_the_rest_of_the_setting_and_is_put_back_as_it_was(driver):
    nic = driver(0, 1, PTP_ONLY)
    change = ReceiveStamping("eth7")
    planned = change.plan()
    assert nic.config == (0, 1, PTP_ONLY) and not net.stamps_everything("eth7")
    change.apply()
    assert nic.config == (0, 1, ALL) and net.stamps_everything("eth7")
    KINDS["receive time stamping"](planned).restore()
    assert nic.config == (0, 1, PTP_ONLY)
    nic.config = (0, 0, ALL)  # somebody else's, since
    nic.asked.clear()
    change.restore()
    change.restore()
    assert nic.config == (0, 1, PTP_ONLY) and nic.asked == [SIOCGHWTSTAMP, SIOCSHWTSTAMP]


def test_what_is_on_already_is_nothing_to_change(driver):
    nic = driver(0, 0, ALL)
    change = ReceiveStamping("eth7")
    assert change.plan() == []
    change.apply()
    change.restore()
    assert SIOCSHWTSTAMP not in nic.asked


def test_a_driver_that_does_less_than_it_is_asked_is_an_error_and_put_back(driver):
    nic = driver(0, 0, 0, grants=PTP_ONLY)
    change = ReceiveStamping("eth7")
    change.plan()
    with pytest.raises(XdpcapError, match="eth7 does not stamp every packet"):
        change.apply()
    change.restore()
    assert nic.config == (0, 0, 0)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY])
def test_a_driver_without_it_is_an_ordinary_answer(driver, number):
    driver(0, 0, 0).fails[SIOCGHWTSTAMP] = number
    assert timestamping.stamping("eth7") is None
    assert not net.stamps_everything("eth7") and not net.can_stamp_everything("eth7")
    assert ReceiveStamping("eth7").plan() == []


def test_what_the_driver_refuses_names_the_call_and_what_can_not_be_put_back_is_told(
    driver, caplog
):
    nic = driver(0, 0, 0)
    change = ReceiveStamping("eth7")
    change.plan()
    nic.fails[SIOCSHWTSTAMP] = errno.ERANGE
    with pytest.raises(KernelError, match=r"ioctl\(eth7, SIOCSHWTSTAMP\): ERANGE"):
        change.apply()
    nic.config = (0, 0, ALL)
    change.restore()
    assert "receive time stamping of eth7 stays on: ioctl(eth7" in caplog.text


def test_an_interface_that_has_gone_is_named(driver):
    driver(0, 0, 0).fails[SIOCGHWTSTAMP] = errno.ENODEV
    with pytest.raises(XdpcapError, match="eth7 is gone"):
        timestamping.stamping("eth7")


def test_the_kernels_own_answer_for_an_interface_without_a_driver_that_stamps():
    assert timestamping.stamping("lo") is None
    assert ethtool.receive_filters("lo") & 1 << ALL == 0


@pytest.mark.parametrize("filters", [0b01, 0b11, 1 << PTP_ONLY])
def test_a_nic_that_lists_no_filter_for_all_can_not(driver, monkeypatch, filters):
    driver(0, 0, 0)
    # struct ethtool_ts_info: command, so_timestamping, phc_index, tx_types, rx_filters.
    words = [0x41, 0x7F, 3, 1, 0, 0, 0, filters, 0, 0, 0]
    monkeypatch.setattr(ethtool, "ask", lambda *_: struct.pack("=11I", *words))
    assert net.can_stamp_everything("eth7") == bool(filters & 1 << ALL)
    assert net.ptp_clock("eth7") == 3
