"""The arithmetic of docs/sizing.md: against known rates, and as the page has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Last: another build of the package may be the one under test.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.sizing import mixes, need, table

PAGE = Path(__file__).parents[2] / "docs" / "sizing.md"


@pytest.mark.parametrize(
    ("gbps", "mix", "pps"),
    # Well-known rates of Ethernet: 84 and 1538 bytes a packet on the wire.
    [(10, 0, 14_880_952), (10, 2, 812_744), (100, 0, 148_809_524)],
)
def test_packets_a_second_are_those_of_the_wire(gbps, mix, pps):
    assert round(need(gbps, mixes(98, 216)[mix]).pps) == pps


def test_a_record_is_the_padded_packet_and_its_block():
    small, imix, large = mixes(98, 216)
    assert small.record_bytes == 60 + 76
    assert large.record_bytes == 1516 + 76
    assert imix.record_bytes == pytest.approx((7 * 136 + 4 * (592 + 76) + 1592) / 12)


def test_cores_are_the_measured_time_at_that_rate():
    small, imix, large = mixes(100, 200)
    assert need(10, small).cores == pytest.approx(14_880_952 * 100e-9)
    assert 100 < imix.cpu_ns < 200 == large.cpu_ns


def test_the_page_has_the_table_that_is_computed():
    assert "\n".join(table(mixes(98, 216))) in PAGE.read_text()
