"""How a NIC spreads flows over queues: read, made symmetric, put back; on a NIC of the test's."""

from __future__ import annotations

import errno
import json
import sys

import pytest
from toeplitz import flow_input, toeplitz

from xdpcap.errors import KernelError, UsageError
from xdpcap.net import ethtool
from xdpcap.net.guardian import KINDS
from xdpcap.net.rss import (
    ETHTOOL_GRSSH,
    ETHTOOL_SRSSH,
    HEAD,
    SYM_XOR,
    TABLE_STAYS,
    TOEPLITZ,
    XOR,
    Rss,
    SymmetricRss,
    rss,
    set_rss,
    symmetric_key,
)

KEY = bytes(range(1, 41))
QUEUES = bytes([0, 0, 0, 0, 1, 0, 0, 0])


class Nic:
    """What net/ethtool/ioctl.c makes of struct ethtool_rxfh, for a driver that can do this much.

    `settable` are the functions that it takes with a key, `xfrm` whether it transforms its input;
    `broken` is the error of every change.
    """

    def __init__(self, now, *, settable=(TOEPLITZ,), xfrm=False, broken=0):
        self.now, self._settable, self._xfrm, self._broken = now, settable, xfrm, broken
        self.changes = 0

    def ask(self, name, question, structure):
        assert name == "eth7"
        if self.now is None:
            return None
        command, context, entries, key_size, function, xfrm, rest = HEAD.unpack_from(structure)
        assert (context, rest) == (0, 0)
        if command == ETHTOOL_GRSSH:
            return self._read(structure, entries, key_size)
        assert command == ETHTOOL_SRSSH and entries == TABLE_STAYS
        key = structure[HEAD.size :]
        assert len(key) == key_size
        if self._broken:
            raise KernelError(f"ethtool {question} of {name}", self._broken)
        if key_size not in (0, len(self.now.key)):
            raise KernelError(f"ethtool {question} of {name}", errno.EINVAL)
        wanted = Rss(function, xfrm, key or self.now.key)
        if wanted.input_xfrm and not self._xfrm:
            return None
        same_xfrm = wanted.input_xfrm == self.now.input_xfrm
        if wanted != self.now and same_xfrm and function not in self._settable:
            return None
        self.now = wanted
        self.changes += 1
        return structure

    def _read(self, structure, entries, key_size):
        head = (ETHTOOL_GRSSH, 0, 2, len(self.now.key), self.now.function, self.now.input_xfrm, 0)
        if not entries and not key_size:
            return HEAD.pack(*head)
        assert (entries, key_size) == (2, len(self.now.key))
        assert len(structure) == HEAD.size + len(QUEUES) + len(self.now.key)
        return HEAD.pack(*head) + QUEUES + self.now.key


@pytest.fixture
def nic(monkeypatch):
    def put_in(*arguments, **options):
        made = Nic(*arguments, **options)
        # The package has a function of the module's name.
        monkeypatch.setattr(sys.modules["xdpcap.net.rss"], "ask", made.ask)
        return made

    return put_in


def test_function_transformation_and_key_are_read(nic):
    nic(Rss(TOEPLITZ, SYM_XOR, KEY))
    assert rss("eth7") == Rss(TOEPLITZ, SYM_XOR, KEY)
    nic(None)
    assert rss("eth7") is None


@pytest.mark.parametrize("size", [40, 52])
@pytest.mark.parametrize(
    ("one", "other", "ports"),
    [
        ("192.0.2.1", "198.51.100.7", (443, 50000)),
        ("192.0.2.9", "192.0.2.8", None),
        ("2001:db8::1", "2001:db8:ffff::2", (53, 40000)),
    ],
)
def test_the_symmetric_key_gives_both_directions_one_hash(size, one, other, ports):
    key = symmetric_key(size)
    assert len(key) == size
    back = flow_input(other, one, ports and ports[::-1])
    assert toeplitz(flow_input(one, other, ports), key) == toeplitz(back, key)
    assert toeplitz(flow_input(one, other, ports), KEY) != toeplitz(back, KEY)


def test_the_key_is_set_and_is_as_before_afterwards(nic):
    device = nic(Rss(TOEPLITZ, 0, KEY))
    change = SymmetricRss("eth7")
    assert change.plan() == [["eth7", TOEPLITZ, 0, KEY.hex()]]
    change.apply()
    assert device.now == Rss(TOEPLITZ, 0, symmetric_key(40)) and device.now.symmetric
    change.restore()
    assert device.now == Rss(TOEPLITZ, 0, KEY) and not device.now.symmetric
    change.restore()
    assert device.changes == 2


def test_another_process_restores_from_what_was_planned(nic):
    device = nic(Rss(XOR, 0, KEY), settable=(TOEPLITZ, XOR))
    change = SymmetricRss("eth7")
    told = json.loads(json.dumps(change.plan()))
    change.apply()
    assert device.now.function == TOEPLITZ
    KINDS["RSS"](told).restore()
    assert device.now == Rss(XOR, 0, KEY)


def test_a_driver_that_keeps_its_key_but_transforms_the_input_is_told_to(nic):
    device = nic(Rss(TOEPLITZ, 0, KEY), settable=(), xfrm=True)
    change = SymmetricRss("eth7")
    change.plan()
    change.apply()
    assert device.now == Rss(TOEPLITZ, SYM_XOR, KEY)
    change.restore()
    assert device.now == Rss(TOEPLITZ, 0, KEY)


@pytest.mark.parametrize("now", [Rss(TOEPLITZ, SYM_XOR, KEY), Rss(TOEPLITZ, 0, symmetric_key(40))])
def test_what_is_symmetric_already_is_left_alone(nic, now):
    device = nic(now)
    change = SymmetricRss("eth7")
    assert change.plan() == []
    change.apply()
    change.restore()
    assert device.changes == 0


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, "does not spread packets by a hash that could be set"),
        (Rss(TOEPLITZ, 0, KEY), "lets neither the key of its hash be set nor its input"),
        (Rss(TOEPLITZ, 0, b""), "lets neither the key of its hash be set nor its input"),
    ],
)
def test_a_device_that_can_not_is_refused_in_one_line(nic, now, words):
    nic(now, settable=())
    with pytest.raises(UsageError, match=words) as caught:
        SymmetricRss("eth7").apply()
    assert str(caught.value).startswith("--rss symmetric: ") and "eth7" in str(caught.value)
    assert "--hash program" in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_kernel_refuses_for_another_reason_is_told_as_it_is(nic):
    nic(Rss(TOEPLITZ, 0, KEY), broken=errno.EPERM)
    with pytest.raises(KernelError) as caught:
        SymmetricRss("eth7").apply()
    assert caught.value.errno == errno.EPERM


def test_what_can_not_be_restored_is_told_with_the_command(nic, caplog):
    nic(Rss(TOEPLITZ, 0, KEY))
    change = SymmetricRss("eth7")
    change.plan()
    change.apply()
    nic(Rss(TOEPLITZ, 0, symmetric_key(40)), broken=errno.ENETDOWN)
    change.restore()
    assert f"`ethtool -X eth7 hkey {KEY.hex(':')}`" in caplog.text


def test_the_loopback_has_nothing_to_set():
    assert rss("lo") is None
    with pytest.raises(KernelError) as caught:
        set_rss("lo", Rss(TOEPLITZ, 0, KEY))
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.EPERM)
    assert ethtool.driver("lo") == ""
