"""options.record: every value or combination that can't work is one line with the way out."""

from __future__ import annotations

import math
import os
from dataclasses import FrozenInstanceError, replace
from functools import partial
from mmap import PAGESIZE
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from option_problems import accepted, refusal_of

from xdpcap.errors import UsageError
from xdpcap.options.program_argument import ProgramFile
from xdpcap.options.record import MAX_DEAD_MAN_S, MAX_SNAPLEN, RecordOptions
from xdpcap.options.units import KIB, MIB
from xdpcap.savefile import names

GOOD = RecordOptions(interfaces=("v0",), output="captures")


refusal = partial(refusal_of, GOOD)
accept = partial(accepted, GOOD)


def test_the_defaults_are_valid_and_cannot_be_changed_afterwards() -> None:
    GOOD.validate()
    with pytest.raises(FrozenInstanceError):
        GOOD.batch = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"interfaces": ()}, "no interface"),
        ({"interfaces": ("any",)}, "-i any"),
        ({"interfaces": ("",)}, "''"),
        ({"interfaces": ("a/b",)}, "'a/b'"),
        ({"interfaces": ("a\nb",)}, r"'a\nb'"),
        ({"interfaces": ("v0", "v1", "v0")}, "-i v0: named twice"),
        ({"queues": ()}, "--queues"),
        ({"queues": (0, -1)}, "--queues -1"),
        ({"queues": (1, 2, 1)}, "queue 1 is listed twice"),
        ({"netns": ""}, "--netns"),
        ({"user": ""}, "--user"),
    ],
)
def test_a_source_that_cannot_exist_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(**changes)


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.0, "more than 0 seconds"),
        (math.nan, "more than 0 seconds"),
        (0.4, "at least 500ms"),
        (5e6, "at most"),
    ],
)
def test_a_dead_mans_handle_of_no_use_is_refused(seconds: float, says: str) -> None:
    assert says in refusal(dead_man_s=seconds)


def test_a_dead_mans_handle_may_be_short_or_long() -> None:
    accept(dead_man_s=0.5)
    accept(dead_man_s=MAX_DEAD_MAN_S)


def test_an_offloaded_program_is_refused_with_the_reason() -> None:
    for mirror in (False, True):
        said = refusal(attach="offload", mirror=mirror)
        assert "AF_XDP can't be fed from an offloaded program" in said and "dump -H" in said


def test_zero_copy_cannot_be_required_of_generic_mode() -> None:
    assert "--attach generic" in refusal(attach="generic", zero_copy="require")
    accept(attach="native", zero_copy="require")
    accept(attach="generic", zero_copy="off")
    accept(attach="generic", zero_copy="auto")


@pytest.mark.parametrize("field", ["attach", "zero_copy", "format"])
def test_an_unknown_mode_is_answered_with_the_modes_there_are(field: str) -> None:
    assert "choose one of" in refusal(**{field: "fast"})


def test_a_cpu_outside_the_affinity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4})
    assert "may run on 0-1,4 only" in refusal(cpus=(0, 2))
    assert "--cpus" in refusal(cpus=())
    accept(cpus=(4,))  # fewer CPUs than queues: used in turn
    accept(cpus=(0, 0, 1))


@pytest.mark.parametrize("frame_size", [0, -2048, 1024, 3000, PAGESIZE * 2])
def test_a_frame_is_a_power_of_two_up_to_the_page(frame_size: int) -> None:
    assert f"--frame-size {frame_size}" in refusal(frame_size=frame_size)


def test_frames_of_2048_and_4096_are_accepted() -> None:
    accept(frame_size=2048)
    accept(frame_size=4096)


@pytest.mark.parametrize(("ring_size", "use"), [(1000, 1024), (0, 1), (-4, 1), (3, 4)])
def test_a_ring_that_is_no_power_of_two_is_told_the_next_one(ring_size: int, use: int) -> None:
    line = refusal(ring_size=ring_size)
    assert f"--ring-size {ring_size}: must be a power of two" in line
    assert line.endswith(f"use {use}")


def test_a_umem_with_fewer_frames_than_its_ring_is_refused() -> None:
    line = refusal(umem_size_bytes=16 * MIB, ring_size=16384, frame_size=2048)
    assert "8192 frames of 2048 bytes are fewer than the ring's 16384" in line
    assert "use --umem-size 32MiB" in line
    accept(umem_size_bytes=32 * MIB, ring_size=16384, frame_size=2048)
    refusal(umem_size_bytes=32 * MIB, ring_size=16384, frame_size=4096)


@pytest.mark.parametrize(
    ("umem_size_bytes", "frame_size", "ring_size"),
    [(64 * MIB, 2048, 32768), (64 * MIB, 4096, 16384), (96 * MIB, 2048, 32768), (4096, 4096, 1)],
)
def test_without_a_ring_size_the_ring_holds_all_frames_it_can(
    umem_size_bytes: int, frame_size: int, ring_size: int
) -> None:
    options = replace(GOOD, umem_size_bytes=umem_size_bytes, frame_size=frame_size)
    options.validate()
    assert options.ring_size_for(options.frame_size or 2048) == ring_size


@pytest.mark.parametrize("size", [0, -PAGESIZE, 64 * MIB + 1, 64 * MIB - 2048])
def test_a_umem_is_whole_pages(size: int) -> None:
    assert "multiple of the page size" in refusal(umem_size_bytes=size)


@pytest.mark.parametrize(
    ("size", "use"),
    [
        (0, "256KiB"),
        (-1, "256KiB"),
        (255 * KIB, "256KiB"),
        (MIB + 1, "1028KiB"),
        (1024 * MIB + 4096, "1GiB"),
    ],
)
def test_a_write_block_is_aligned_and_neither_tiny_nor_huge(size: int, use: str) -> None:
    line = refusal(write_buffer_bytes=size)
    assert "--write-buffer" in line
    assert line.endswith(f"use {use}")


def test_blocks_are_large_for_a_disk_and_small_for_memory_unless_one_says_otherwise() -> None:
    options = RecordOptions(interfaces=("eth1",), output="dir")
    assert options.blocks(disk=True) == (4 * MIB, 8)
    assert options.blocks(disk=False) == (256 * KIB, 2)
    chosen = replace(options, write_buffer_bytes=2 * MIB, write_buffer_count=3)
    assert chosen.blocks(disk=True) == chosen.blocks(disk=False) == (2 * MIB, 3)
    assert replace(options, write_buffer_count=4).blocks(disk=False) == (256 * KIB, 4)


def test_the_suggested_sizes_are_themselves_accepted() -> None:
    accept(write_buffer_bytes=1028 * KIB)
    accept(write_buffer_bytes=256 * KIB)
    accept(write_buffer_bytes=1024 * MIB)


@pytest.mark.parametrize(
    ("field", "bad", "option"),
    [
        ("snaplen", -1, "--snaplen"),
        ("snaplen", MAX_SNAPLEN + 1, "--snaplen"),
        ("batch", 0, "--batch"),
        ("write_buffer_count", 1, "--write-buffer-count"),
        ("write_buffer_count", 1025, "--write-buffer-count"),
        ("rotate_size_bytes", 0, "--rotate-size"),
        ("rotate_packets", 0, "--rotate-packets"),
        ("count", 0, "--count"),
        ("count", -5, "--count"),
        ("max_size_bytes", 0, "--max-size"),
        ("flush_interval_s", 0.0, "--flush-interval"),
        ("flush_interval_s", -1.0, "--flush-interval"),
        ("flush_interval_s", math.inf, "--flush-interval"),
        ("stats_interval_s", 0.0, "--stats-interval"),
        ("stats_interval_s", 0.01, "--stats-interval 10ms"),
        ("stats_interval_s", math.nan, "--stats-interval"),
        ("rotate_interval_s", 0.0, "--rotate-interval"),
        ("rotate_interval_s", 0.001, "--rotate-interval 1ms"),
        ("duration_s", 0.0, "--duration"),
    ],
)
def test_a_number_out_of_range_names_its_option(field: str, bad: float, option: str) -> None:
    assert refusal(**{field: bad}).startswith(option)


@pytest.mark.parametrize("field", ["keep_files", "keep_size_bytes"])
def test_keeping_needs_a_rotation(field: str) -> None:
    assert "without rotation" in refusal(**{field: 10 * MIB})
    assert "must be at least 1" in refusal(**{field: 0, "rotate_packets": 5})
    for rotation in ({"rotate_size_bytes": MIB}, {"rotate_packets": 5}, {"rotate_interval_s": 60}):
        accept(**{field: 10 * MIB}, **rotation)


def test_both_kinds_of_keeping_go_together() -> None:
    accept(keep_files=5, keep_size_bytes=10 * MIB, rotate_size_bytes=MIB)


def test_keeping_less_than_one_file_is_refused() -> None:
    line = refusal(keep_size_bytes=MIB, rotate_size_bytes=2 * MIB)
    assert "--keep-size 1MiB" in line
    accept(keep_size_bytes=2 * MIB, rotate_size_bytes=2 * MIB)


def test_aligning_needs_an_interval() -> None:
    assert "--rotate-interval" in refusal(rotate_align=True)
    accept(rotate_align=True, rotate_interval_s=3600)


def test_an_empty_output_command_or_template_is_refused() -> None:
    assert "-o" in refusal(output="")
    assert "--post-rotate" in refusal(post_rotate=())
    assert "--post-rotate" in refusal(post_rotate=("",))
    assert "--name" in refusal(name_template="")


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"rotate_size_bytes": MIB}, "--rotate-size"),
        ({"rotate_packets": 5}, "--rotate-packets"),
        ({"rotate_interval_s": 5.0}, "--rotate-interval"),
        ({"rotate_interval_s": 5.0, "rotate_align": True}, "--rotate-interval"),
        ({"keep_files": 5}, "--keep"),
        ({"keep_size_bytes": 5}, "--keep-size"),
        ({"post_rotate": ("true",)}, "--post-rotate"),
        ({"name_template": "x-{queue}-{sequence}"}, "--name"),
        ({"json": True}, "--json"),
    ],
)
def test_standard_output_takes_nothing_that_is_done_to_files(
    changes: dict[str, Any], option: str
) -> None:
    assert refusal(output="-", **changes).startswith(f"-o - with {option}: ")


def test_standard_output_can_be_limited_like_any_other() -> None:
    accept(output="-", count=5, duration_s=1.0, max_size_bytes=MIB, format="pcap", quiet=True)


def test_quiet_has_no_use_for_a_statistics_interval() -> None:
    assert "--stats-interval" in refusal(quiet=True, stats_interval_s=5.0)
    accept(quiet=True)
    accept(quiet=True, json=True)


def test_the_default_name_is_the_one_that_names_are_made_by() -> None:
    assert GOOD.name_template == names.DEFAULT_TEMPLATE


@pytest.mark.parametrize("kind", ["adapter", "adapter_unsynced"])
@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"xdp_hook": 7}, "--xdp-hook"),
        ({"bpf": {"eth0": ProgramFile("mine.o", None)}}, "--bpf"),
        ({"attach": "generic"}, "--attach generic"),
    ],
)
def test_the_nics_times_are_asked_for_by_xdpcaps_own_native_program_alone(
    kind: str, options: dict[str, Any], other: str
) -> None:
    with pytest.raises(UsageError) as refused:
        replace(GOOD, time_stamp_type=kind, **options).validate()
    assert str(refused.value) == (
        f"-j {kind} with {other}: that program asks no driver for times; drop one of them"
    )
    for other_kind in ("auto", "host"):
        replace(GOOD, time_stamp_type=other_kind, **options).validate()


numbers = st.integers(-(1 << 64), 1 << 64)
odd_numbers = st.one_of(
    numbers, st.integers(-2, 70000), st.sampled_from([1 << n for n in range(40)])
)


@given(
    ring_size=odd_numbers, frame_size=odd_numbers, umem_size_bytes=odd_numbers, batch=odd_numbers
)
def test_memory_that_is_accepted_always_holds_its_rings(**memory: Any) -> None:
    options = replace(GOOD, **memory)
    try:
        options.validate()
    except UsageError as error:
        assert "\n" not in str(error)
        return
    ring_size = options.ring_size_for(options.frame_size or 2048)
    assert ring_size & (ring_size - 1) == 0
    assert options.umem_size_bytes % options.frame_size == 0
    assert 1 <= ring_size <= options.umem_size_bytes // options.frame_size
    assert options.batch >= 1


@given(seconds=st.floats(allow_nan=True, allow_infinity=True))
def test_no_float_passes_for_a_time_that_cannot_be_waited(seconds: float) -> None:
    options = replace(GOOD, duration_s=seconds)
    if 0 < seconds < math.inf:
        options.validate()
    else:
        with pytest.raises(UsageError, match="--duration"):
            options.validate()
