"""Measurements of the rings: what is asked for, and how counters become rates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from command_line import one_line, run
from option_problems import accepted, refusal_of

from xdpcap.bench.rings_report import DROPS, Moment, RingSample, between, total
from xdpcap.cli.bench import SETTINGS, bench_command
from xdpcap.options.bench_rings import RingBenchOptions

GOOD = RingBenchOptions("eth1", "rx-drop")
SEND = RingBenchOptions("eth1", "tx-only")
refusal = partial(refusal_of, GOOD)


def sample(queue: int, times: int, *, most: int = 512) -> RingSample:
    counters = {
        "packets": 1000 * times,
        "bytes": 60_000 * times,
        "descriptors": 1000 * times,
        "syscalls": 20 * times,
        "looks": 40 * times,
        "empty_looks": 10 * times,
        "occupancy_sum": 40 * 256 * times,
        "occupancy_most": most,
    }
    return RingSample(queue, counters, dict.fromkeys(DROPS, 7 * times), 0.25 * times)


def rates(*rows: tuple[RingSample, RingSample]):
    before = Moment(10.0, 5.0, [early for early, _ in rows])
    after = Moment(10.5, 5.6, [late for _, late in rows])
    return [rate for _, rate in between(before, after, 1024)]


def test_a_rate_is_what_has_grown_between_two_moments():
    (rate,) = rates((sample(0, 1), sample(0, 3)))
    assert rate.packets == 2000 and rate.pps == 4000
    # 60 bytes take 84 on the wire.
    assert rate.wire_bps == 2000 * 84 * 8 / 0.5
    assert rate.cpu_share == 1.0
    assert rate.descriptors_per_syscall == 50
    assert rate.ring_mean == 0.25 and rate.ring_most == 0.5
    assert rate.drops["rx_dropped"] == 14


def test_all_queues_together_weigh_the_ring_by_how_often_it_was_looked_at():
    whole = total(rates((sample(0, 1), sample(0, 3)), (sample(1, 1), sample(1, 2, most=1024))))
    assert whole.packets == 3000 and whole.cpu_share == 1.5
    assert whole.ring_mean == 0.25 and whole.ring_most == 1.0
    assert whole.drops["rx_ring_full"] == 21


def test_an_idle_queue_has_no_figure_a_packet():
    (rate,) = rates((sample(0, 2), sample(0, 2)))
    assert rate.descriptors_per_syscall is None
    assert rate.as_dict()["cpu_ns_per_packet"] is None
    assert rate.ring_mean == 0.0


def test_there_is_a_frame_for_each_descriptor():
    assert RingBenchOptions("eth1", "l2fwd", ring_size=512).umem_size_bytes == 512 * 2048
    accepted(GOOD, ring_size=8, batch=8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interface": ""}, "no interface"),
        ({"batch": 0}, "--batch 0"),
        ({"batch": 4096}, "--batch 4096"),
        ({"ring_size": 1000}, "use 1024"),
        ({"frame_size": 3000}, "--frame-size 3000"),
        ({"attach": "none"}, "--attach"),
        ({"duration_s": 0.0}, "--duration"),
        ({"queues": ()}, "--queues"),
    ],
)
def test_what_can_not_be_measured_is_refused(changes, said):
    assert said in refusal(**changes)


def test_sending_needs_no_program_and_no_busy_polling():
    accepted(SEND, attach="none")
    assert "--busy-poll" in refusal_of(SEND, busy_poll=True)
    assert "--packet-size" in refusal_of(SEND, packet_size=4096)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rx-drop"], "no interface"),
        (["rx-drop", "-i", "nope0", "more"], "follow --sweep"),
        (["rx-drop", "-i", "nope0", "--plot", "a.svg"], "add --sweep"),
        (["rx-drop", "-i", "nope0", "--sweep", "batch=0,1"], "--batch 0"),
        (["rx-drop", "-i", "nope0", "--sweep", "batch=1", "--plot", "a.gif"], ".svg"),
        (["rx-drop", "-i", "nope0", "--sweep", "batch=1", "--csv", "nope/a.csv"], "directory"),
        (["tx-only", "-i", "nope0", "--sweep", "busy-poll=maybe"], "on or off"),
    ],
)
def test_a_wrong_command_is_one_line(capsys, arguments, said):
    assert run("bench", *arguments) == 2
    assert said in one_line(capsys)


PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


@pytest.mark.parametrize("mode", ["rx-drop", "tx-only", "l2fwd", "lab"])
def test_the_page_has_every_option_and_setting(mode):
    page = PAGE.read_text(encoding="utf-8")
    options = [p for p in bench_command.commands[mode].params if p.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert {name for name in SETTINGS if f"`{name}`" not in page} == set()
