"""The clock of a real NIC, and what its driver makes of receive time stamping.

igb has a clock and stamps PTP's packets only, and its driver tells programs no time.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from observed import attached
from xdpcap._deviceclock import Ahead

from xdpcap.errors import KernelError
from xdpcap.hardware_clock import HardwareClock
from xdpcap.lab import in_netns
from xdpcap.net import timestamping
from xdpcap.net.timestamping import ReceiveStamping, Stamping

pytestmark = pytest.mark.nics("igb")

PTP_ONLY = 12  # HWTSTAMP_FILTER_PTP_V2_EVENT
OFF, ON = Stamping(0, 0, 0), Stamping(0, 1, PTP_ONLY)


def test_the_driver_itself_reads_the_clock_beside_the_systems(lab):
    def compare() -> None:
        with contextlib.closing(HardwareClock("rx0")) as clock:
            ahead = Ahead(clock.id)
            found = ahead.measure()
            assert ahead.way == "by the driver"
            # A guest's read of a register is its host's work, of some tens of microseconds.
            roughly = time.clock_gettime_ns(clock.id) - time.time_ns()
            assert abs(found - roughly) < 20_000_000

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
    assert "-j adapter: igb tells programs no receive time on Linux" in result.stderr
    assert attached(lab) is None
