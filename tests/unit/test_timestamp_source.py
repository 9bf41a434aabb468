"""-j: whose clock it is by what NIC, driver and command line have; and the clock itself."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace

import pytest

from xdpcap import net
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host import kernel
from xdpcap.net import Link, nic_clock
from xdpcap.options.record import RecordOptions
from xdpcap.programs import timestamp_source
from xdpcap.programs.attach import _member_metadata
from xdpcap.programs.metadata import candidates
from xdpcap.programs.timestamp_source import DeviceTime, choose_time_stamps, stamping_change

OPTIONS = RecordOptions(interfaces=("eth1",), output="captures")
LINK = Link("eth1", 7, "02:00:00:00:00:07", 1500, True, True, "", "ice", 1000, "", 0, None, None)
SECOND_NS = 10**9


class Clock:
    """In place of the NIC's."""

    def __init__(self, interface: str) -> None:
        assert interface == "eth1"

    def ahead_ns(self) -> int:
        return 0

    def close(self) -> None:
        pass


class NoClock(Clock):
    def __init__(self, interface: str) -> None:
        raise XdpcapError(f"{interface} has no PTP hardware clock")


class Unreadable(Clock):
    def ahead_ns(self) -> int:
        raise KernelError("clock_gettime(-37)", errno.ENODEV)


@pytest.fixture
def nic(monkeypatch):
    """A NIC that lacks nothing; the test takes something away."""
    monkeypatch.setattr(net, "rx_metadata", lambda index: 1 if index == LINK.index else 0)
    monkeypatch.setattr(timestamp_source, "HardwareClock", Clock)
    monkeypatch.setattr(net, "stamps_everything", lambda name: True)
    monkeypatch.setattr(net, "can_stamp_everything", lambda name: True)
    return monkeypatch


def chosen(kind: str, refusal: str | None = None):
    return choose_time_stamps(replace(OPTIONS, time_stamp_type=kind), LINK, refusal)


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("auto", "adapter"), ("host", "host")] + [(k, k) for k in ("adapter", "adapter_unsynced")],
)
def test_a_nic_that_lacks_nothing_stamps_unless_the_host_is_to(nic, kind, taken):
    found = chosen(kind)
    assert (found.type, found.why_host) == (taken, "")
    assert found.by_device == (taken != "host")
    assert found.in_device_time == (taken == "adapter_unsynced")


LACKS = [
    ("clock", NoClock, "eth1 has no PTP hardware clock"),
    ("clock", Unreadable, "clock_gettime(-37): ENODEV"),
    ("stamping", False, "receive time stamping is off in the NIC"),
    ("refusal", None, "the program mirrors"),
]


@pytest.mark.parametrize(("what", "how", "why"), LACKS, ids=[why for *_, why in LACKS])
def test_what_lacks_is_why_the_host_stamps_or_why_it_is_refused(nic, what, how, why):
    if what == "clock":
        nic.setattr(timestamp_source, "HardwareClock", how)
    elif what == "stamping":
        nic.setattr(net, "stamps_everything", lambda name: how)
    refusal = why if what == "refusal" else None
    found = chosen("auto", refusal)
    assert found.type == "host" and found.why_host.startswith(why)
    assert chosen("host", refusal) == timestamp_source.HOST
    for kind in ("adapter", "adapter_unsynced"):
        with pytest.raises(UsageError, match=f"^-j {kind}: .*; use -j host$") as refused:
            chosen(kind, refusal)
        assert why in str(refused.value)


def test_where_the_driver_tells_no_time_nobody_is_told_why_unless_it_was_asked_for(nic):
    nic.setattr(net, "rx_metadata", lambda index: 2 | 4)
    assert chosen("auto") == timestamp_source.HOST
    with pytest.raises(
        UsageError, match=r"^-j adapter: ice reports no receive time to XDP programs on"
    ):
        chosen("adapter")


def test_a_nic_is_changed_only_where_its_times_are_asked_for_and_to_be_had(nic):
    assert stamping_change(OPTIONS, LINK) is None
    asked = replace(OPTIONS, time_stamp_type="adapter")
    assert isinstance(stamping_change(asked, LINK), net.ReceiveStamping)
    nic.setattr(net, "can_stamp_everything", lambda name: False)
    assert stamping_change(asked, LINK) is not None  # it is on, and stays on
    nic.setattr(net, "stamps_everything", lambda name: False)
    with pytest.raises(UsageError, match=r"^-j adapter: the NIC of eth1 does not stamp every"):
        stamping_change(asked, LINK)


def test_only_a_native_build_that_the_kernel_takes_has_the_nics_times(nic):
    nic.setattr(kernel, "version", lambda: (6, 6))
    asked = replace(OPTIONS, time_stamp_type="adapter")
    (variant, found), *others = _until_refused(
        candidates(asked, LINK, "native"), "the kernel accepted no"
    )
    assert variant.queries_driver and found.driver_bits == 1 and found.time.type == "adapter"
    assert not others
    assert not _until_refused(candidates(asked, LINK, "generic"), "only a native program")
    with pytest.raises(UsageError, match="programs in libxdp's dispatcher, which"):
        _member_metadata(asked, LINK, variant)
    # By itself the recording goes on with the next best, and says why.
    (_, first), *others = candidates(OPTIONS, LINK, "native")
    assert first.time.by_device
    assert {other.time.why_host for _, other in others} == {
        "the kernel accepted no program for eth1 that queries its driver"
    }
    assert "dispatcher" in _member_metadata(OPTIONS, LINK, variant).time.why_host


def _until_refused(found, why: str) -> list:
    """What a generator gives before it refuses to give more."""
    given = []
    with pytest.raises(UsageError, match=f"^-j adapter: {why}"):
        for one in found:
            given.append(one)
    return given


# -- what is told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead_ns", "tsoffset_s", "told"),
    [
        (0, 0, "0.000000000 s ahead of UTC"),
        (499_999_999, 0, "0.499999999 s ahead of UTC"),
        (37 * SECOND_NS + 12, -37, "37.000000012 s ahead of UTC"),
        (37 * SECOND_NS - 12, -37, "36.999999988 s ahead of UTC"),
        (-1_700_000_000 * SECOND_NS - 1, 1_700_000_000, "1700000000.000000001 s behind UTC"),
    ],
)
def test_whole_seconds_bring_a_clock_as_it_is_nearest_to_utc(ahead_ns, tsoffset_s, told):
    raw = DeviceTime("/dev/ptp3", ahead_ns, raw=True)
    assert raw.tsoffset_s == tsoffset_s
    assert raw.description == f"/dev/ptp3 of the NIC as it is, {told}"
    comment = raw.comment("time: CLOCK_TAI")
    assert f"by its clock /dev/ptp3 as it is, {told} at the start" in comment
    assert ("if_tsoffset" in comment) == bool(tsoffset_s)
    assert f"{tsoffset_s:+} s" in comment or not tsoffset_s
    moved = DeviceTime("/dev/ptp3", ahead_ns, raw=False)
    assert moved.tsoffset_s == 0 and "if_tsoffset" not in moved.comment("time: CLOCK_TAI")


# -- the clock --------------------------------------------------------------------------------


def test_an_interface_without_a_hardware_clock_is_named():
    with pytest.raises(XdpcapError, match=r"^lo has no PTP hardware clock$"):
        nic_clock.HardwareClock("lo")


def test_a_clock_that_can_not_be_opened_is_an_error_with_its_path(monkeypatch):
    monkeypatch.setattr(net, "ptp_clock", lambda name: 987654)
    with pytest.raises(KernelError, match=r"open\(/dev/ptp987654\): ENOENT") as failed:
        nic_clock.HardwareClock("eth1")
    assert failed.value.errno == errno.ENOENT


def test_the_clocks_id_is_that_of_its_open_descriptor_until_it_is_closed(monkeypatch):
    opened = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(net, "ptp_clock", lambda name: 3)
    monkeypatch.setattr(nic_clock.os, "open", lambda path, flags: opened)
    clock = nic_clock.HardwareClock("eth1")
    assert (clock.path, clock.id) == ("/dev/ptp3", (~opened << 3) | 3)
    with pytest.raises(OSError, match="Invalid argument"):
        time.clock_gettime(clock.id)  # /dev/null is no clock
    clock.close()
    clock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened)
    with pytest.raises(KernelError, match="clock_gettime"):
        clock.ahead_ns()
