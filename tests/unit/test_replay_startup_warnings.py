"""What is said before the first packet about what will go wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from xdpcap.net import Link
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.batches import Reading
from xdpcap.replay.startup_warnings import link_warnings, sending_warnings

OPTIONS = ReplayOptions(files=("web.pcap",), interface="eth1")
LINK = Link("eth1", 3, "02:00:00:00:00:01", 1500, True, True, "", "igc", 1000, "", 0, None, None)


def causes(packets: int = 100, queues: int = 1, *, preload: bool = True, cut: int = 0, **options):
    feed = SimpleNamespace(preload=preload, reading=Reading(truncated=cut))
    return list(sending_warnings(replace(OPTIONS, **options), feed, packets, queues))


def test_a_link_without_the_other_end_loses_packets():
    assert list(link_warnings(LINK)) == []
    ((cause, _),) = link_warnings(replace(LINK, carrier=False))
    assert "eth1 has no carrier" in cause


def test_nothing_is_said_of_an_ordinary_replay():
    assert causes() == []


def test_one_packet_has_no_gap_to_repeat_it_at():
    ((cause, way_out),) = causes(1, loop=0)
    assert "no recorded gap" in cause and way_out == "--pps N"
    assert causes(1) == causes(1, loop=5, pps=10.0) == causes(2, loop=5) == []
    assert causes(1, loop=5, top_speed=True) == []


def test_packets_that_were_cut_when_recorded_are_told():
    ((cause, _),) = causes(cut=1234)
    assert "1,234 packets" in cause


@pytest.mark.parametrize(("cpus", "warned"), [(2, True), (4, True), (5, False)])
def test_senders_that_wait_awake_need_cpus(monkeypatch, cpus, warned):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)))
    assert bool(causes(queues=4)) is warned
    assert causes(queues=4, timer="sleep") == causes(queues=4, top_speed=True) == []
