"""The clock of a real NIC, and what its driver makes of receive time stamping.

igb has a clock and stamps PTP's packets only, and its driver tells programs no time.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time

import pytest
from capture_files import packets
from compiled_programs import PROGRAMS, compiled
from kernel_requirements import DRIVER_TIMES
from leftovers import attached
from nic_pair import ip, send
from patched_command import lent_clock

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import KernelError
from xdpcap.host.clocks import Ahead, dynamic_clock
from xdpcap.net import timestamping
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.net.timestamping import ReceiveStamping, Stamping

pytestmark = pytest.mark.nics("igb")

PTP_ONLY = 12  # HWTSTAMP_FILTER_PTP_V2_EVENT
OFF, ON = Stamping(0, 0, 0), Stamping(0, 1, PTP_ONLY)
HOUR_NS = 3600 * 10**9
# A guest's read of a register is its host's work, of some tens of microseconds; at times more.
DOUBT_NS = 20_000_000
# A Sync message of PTP version 2 right behind the Ethernet header.
SYNC = struct.pack("!6s6sHBBH", b"\x01\x1b\x19\0\0\0", b"\2\0\0\0\3\2", 0x88F7, 0, 2, 44)


def test_the_driver_itself_reads_the_clock_beside_the_systems(lab):
    def compare() -> None:
        with contextlib.closing(HardwareClock("rx0")) as clock:
            ahead = Ahead(clock.id)
            found = ahead.measure()
            assert ahead.way == "by the driver"
            roughly = time.clock_gettime_ns(clock.id) - time.time_ns()
            assert abs(found - roughly) < DOUBT_NS

    in_netns(lab.rx_ns, compare)


def test_a_driver_is_set_and_set_back_and_what_it_can_not_is_an_error(lab):
    def change() -> None:
        assert timestamping.stamping("rx0") == OFF
        assert not timestamping.can_stamp_everything("rx0")
        assert timestamping._ask("rx0", timestamping.SIOCSHWTSTAMP, ON) == ON
        everything = ReceiveStamping("rx0")
        planned = everything.plan()
        with pytest.raises(KernelError, match="ERANGE"):
            everything.apply()
        # Another process that was told before: what was set meanwhile does not stay.
        timestamping._ask("rx0", timestamping.SIOCSHWTSTAMP, OFF)
        ReceiveStamping.planned(planned).restore()
        assert timestamping.stamping("rx0") == ON
        ReceiveStamping.planned(["rx0", 0, 0, 0]).restore()
        assert timestamping.stamping("rx0") == OFF

    in_netns(lab.rx_ns, change)


def test_a_driver_that_tells_no_times_is_refused(lab, record):
    result = record("-j", "adapter", ready=False).wait(60.0)
    assert (result.returncode, result.files) == (2, [])
    assert "-j adapter: igb reports no receive time to XDP programs on Linux" in result.stderr
    assert attached(lab) is None


# --- a veth tells programs of the time that a NIC stamped


@contextlib.contextmanager
def veth_behind(lab, directory):
    """rx0 in a bridge with a veth pair: its packets go on to "behind".

    veth makes a new skb, which has no time, of what has less than 256 bytes of room before it
    (veth_convert_skb_to_xdp_buff()), and igb leaves less: a program makes the room.
    """
    program = str(compiled(PROGRAMS / "trim_front.bpf.c", directory))
    on_rx0 = ("-n", lab.rx_ns, "link", "set", "dev", "rx0")
    ip("-n", lab.rx_ns, "link", "add", "front", "type", "veth", "peer", "name", "behind")
    ip("-n", lab.rx_ns, "link", "add", "middle", "type", "bridge", "mcast_snooping", "0")
    try:
        for name in ("front", "behind", "middle"):
            ip("-n", lab.rx_ns, "link", "set", name, "up")
        for name in ("front", "rx0"):
            ip("-n", lab.rx_ns, "link", "set", name, "master", "middle")
        ip(*on_rx0, "xdp", "obj", program, "sec", "xdp")
        lab.wait_up()
        yield
    finally:
        ip(*on_rx0, "xdp", "off")
        ip(*on_rx0, "nomaster")
        for name in ("front", "middle"):
            ip("-n", lab.rx_ns, "link", "del", name)


@contextlib.contextmanager
def an_hour_ahead(number):
    """A NIC's clock that is wrong by an hour."""
    descriptor = os.open(f"/dev/ptp{number}", os.O_RDWR)
    clock = dynamic_clock(descriptor)
    try:
        time.clock_settime_ns(clock, time.time_ns() + HOUR_NS)
        yield
    finally:
        time.clock_settime_ns(clock, time.time_ns())
        os.close(descriptor)


@DRIVER_TIMES
@pytest.mark.parametrize("kind", ["adapter", "adapter_unsynced"])
def test_a_time_that_a_nic_stamped_comes_through_the_drivers_kfunc(lab, record, tmp_path, kind):
    number = in_netns(lab.rx_ns, net.ptp_clock, "rx0")
    # To an address that is not the bridge's own, which would keep them.
    frames = [b"\2\0\0\0\3\x09" + numbered_frame(100, n)[6:] for n in range(8)]
    with veth_behind(lab, tmp_path), an_hour_ahead(number):
        in_netns(lab.rx_ns, timestamping._ask, "rx0", timestamping.SIOCSHWTSTAMP, ON)
        env = {**os.environ, **lent_clock(number)}
        recorder = record("-j", kind, "--json", interfaces=("behind",), env=env)
        before_ns = time.time_ns()
        for n, frame in enumerate(frames):
            send(lab, [SYNC.ljust(256, b"\0") + frame if n % 2 else frame])
        recorder.wait_for(lambda: f" {len(frames)} packets" in recorder.stderr, 5.0)
        after_ns = time.time_ns()
        result = recorder.stop(timeout_s=30.0)
        in_netns(lab.rx_ns, timestamping._ask, "rx0", timestamping.SIOCSHWTSTAMP, OFF)
    found = packets(result.files)
    assert [packet.data for packet in found] == frames
    # The NIC has one register for such a time, and keeps the first until it is read.
    assert 1 <= result.total["device_stamped"] <= len(frames) // 2
    for packet in found:
        # if_tsoffset takes whole seconds off the clock, as it is, and a reader has added it.
        assert before_ns - DOUBT_NS <= packet.ts_ns <= after_ns + DOUBT_NS
