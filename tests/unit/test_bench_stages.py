"""The account of a worker's time: from clocks to stages, and from stages to what limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.bench.stages import BUSY, StageAccount, busiest, together

STAGES = ("peek", "encode", "reap", "write", "disk", "idle", "source")
CPU = ("awake_cpu", "write_cpu", "disk_cpu", "idle_cpu", "source_cpu", "write_blocked")
NOTHING = dict.fromkeys((*STAGES, *CPU, "user", "system"), 0)


def account(**readings: int) -> StageAccount:
    return StageAccount.of({**NOTHING, **readings})


@st.composite
def readings(draw: st.DrawFn) -> dict[str, int]:
    """What clocks can show: no stage has more CPU time than it lasted."""
    found = {name: draw(st.integers(0, 10**12)) for name in STAGES}
    awake = found["peek"] + found["encode"] + found["reap"]
    found["awake_cpu"] = draw(st.integers(0, awake))
    for name in ("write", "disk", "idle", "source"):
        found[f"{name}_cpu"] = draw(st.integers(0, found[name]))
    found["write_blocked"] = draw(st.integers(0, found["write"] - found["write_cpu"]))
    return {**NOTHING, **found}


@given(readings())
def test_no_time_is_in_two_stages_or_in_none(found: dict[str, int]) -> None:
    whole = StageAccount.of(found)
    assert whole.elapsed == pytest.approx(sum(found[name] for name in STAGES))
    assert all(getattr(whole, name) >= 0 for name in (*BUSY, "disk", "idle", "source"))


def test_a_stage_that_had_the_cpu_all_the_time_keeps_it_all() -> None:
    found = account(peek=10, encode=80, reap=5, awake_cpu=95, write=20, write_cpu=20)
    assert (found.peek, found.encode, found.submit, found.kernel) == (10, 80, 25, 0)


def test_what_the_cpu_was_taken_away_for_is_the_kernels() -> None:
    found = account(peek=10, encode=90, awake_cpu=50)
    assert (found.peek, found.encode, found.kernel, found.taken) == (5, 45, 50, 50)


def test_asleep_in_a_write_is_waiting_for_the_disk_and_off_the_cpu_there_is_not() -> None:
    assert account(write=100, write_cpu=10, write_blocked=90).disk == 90
    found = account(write=100, write_cpu=10)
    assert (found.submit, found.disk, found.kernel) == (10, 0, 90)


def test_going_to_sleep_and_waking_is_the_kernels() -> None:
    found = account(idle=100, idle_cpu=30, disk=50, disk_cpu=10)
    assert (found.idle, found.disk, found.kernel, found.taken) == (70, 40, 40, 0)


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (account(peek=50, encode=20, awake_cpu=70, write=20, write_cpu=20), "peek"),
        (account(peek=10, encode=60, awake_cpu=70, write=20, write_cpu=20), "encode"),
        (account(peek=10, encode=20, awake_cpu=30, write=60, write_cpu=60), "submit"),
        (account(peek=10, encode=20, awake_cpu=10, idle=40, idle_cpu=40), "kernel"),
        (account(peek=10, encode=20, awake_cpu=30, disk=70, disk_cpu=1), "disk"),
        (account(encode=20, awake_cpu=20, write=70, write_blocked=70), "disk"),
        (account(peek=10, encode=70, awake_cpu=80, idle=20), "sender"),
        (account(peek=1, encode=1, awake_cpu=2, idle=998, idle_cpu=1), "sender"),
        # Not idle enough for a tenth.
        (account(peek=10, encode=81, awake_cpu=91, idle=9), "encode"),
        # Making packets is no part of a recorder.
        (account(encode=10, awake_cpu=10, source=1000, source_cpu=1000), "encode"),
        (account(), "sender"),
    ],
)
def test_what_takes_most_of_the_time_limits_unless_the_worker_is_idle(
    found: StageAccount, limit: str
) -> None:
    assert found.limit == limit


def test_shares_leave_out_the_making_of_packets_and_add_up() -> None:
    found = account(peek=10, encode=30, awake_cpu=40, disk=40, idle=20, source=100, source_cpu=90)
    assert found.share("encode") == 0.3
    assert math.isclose(found.share("busy") + found.share("disk") + found.share("idle"), 1)
    assert account().share("idle") == 0


def test_several_workers_add_up_and_the_one_that_is_idle_least_is_the_busiest() -> None:
    tired = account(encode=90, awake_cpu=90, idle=10)
    bored = account(encode=5, awake_cpu=5, idle=95)
    both = together([tired, bored])
    assert (both.encode, both.idle, both.elapsed) == (95, 105, 200)
    assert busiest([bored, tired]) is tired


def test_an_account_is_told_by_packet_and_without_packets_it_is_nothing() -> None:
    found = account(encode=90, awake_cpu=90, user=50)
    assert found.per_packet(3)["encode_ns"] == 30
    assert found.per_packet(3)["user_ns"] == pytest.approx(50 / 3)
    assert set(found.per_packet(0).values()) == {0}
