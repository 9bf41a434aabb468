"""--launch-time: what lacks is named, the plainest first."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from xdpcap import net
from xdpcap.host import kernel
from xdpcap.net import Link
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay import launch_time

OPTIONS = ReplayOptions(files=("web.pcap",), interface="eth1", launch_time=True)
LINK = Link("eth1", 7, "02:00:00:00:00:07", 1500, True, True, "", "igc", 1000, "", 0, None, None)


@pytest.fixture
def ready(monkeypatch):
    """A kernel, an interface and queues 1 and 2 that have all that it takes."""
    monkeypatch.setattr(kernel, "version", lambda: (6, 15))
    monkeypatch.setattr(net, "offers_launch_time", lambda index: index == LINK.index)
    monkeypatch.setattr(net, "timed_queues", lambda index: {1, 2} if index == LINK.index else set())
    return monkeypatch


def lacking(queues=(1, 2), link=LINK, **changes):
    return launch_time.lacking(replace(OPTIONS, **changes), link, queues)


def test_nothing_lacks_where_kernel_driver_and_queues_have_it(ready):
    assert lacking() is None
    assert lacking((2,), zero_copy="require", attach="native") is None


def test_an_older_kernel_is_named(ready):
    ready.setattr(kernel, "version", lambda: (6, 14))
    assert lacking() == f"it needs Linux 6.15 and this is {os.uname().release}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zero_copy": "off"}, "it needs zero-copy and --zero-copy is off"),
        ({"attach": "none"}, "it needs a native program and --attach is none"),
        ({"attach": "generic"}, "it needs a native program and --attach is generic"),
        ({"queues": (0, 2)}, "queue 0 has no ETF queueing discipline with offload"),
        ({"queues": (1, 5, 3)}, "queue 3 has no ETF queueing discipline with offload"),
        ({"link": replace(LINK, index=8)}, "the driver igc does not offer it"),
        ({"link": replace(LINK, index=8, driver="")}, "the driver of eth1 does not offer it"),
    ],
)
def test_what_lacks_is_named(ready, changes, reason):
    assert lacking(**changes) == reason


def test_the_start_up_report_says_who_keeps_the_times():
    clock = type("Clock", (), {"path": "/dev/ptp3"})()
    assert launch_time.granted_text(clock) == (
        "kept by the NIC with its clock /dev/ptp3; handed over 2 ms ahead"
    )
    assert launch_time.withheld_text("the driver veth does not offer it") == (
        "not handed to the NIC: the driver veth does not offer it; "
        "the sender waits for each packet's time"
    )
