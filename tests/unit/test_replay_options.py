"""options.replay: every value or combination that can't work is one line with the way out."""

from __future__ import annotations

import math
import os
from dataclasses import FrozenInstanceError, replace
from functools import partial
from ipaddress import ip_network
from mmap import PAGESIZE
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_problems import accepted, refusal_of

from xdpcap.errors import UsageError
from xdpcap.options.replay import ReplayOptions
from xdpcap.options.units import MIB

GOOD = ReplayOptions(files=("a.pcap",), interface="v0")
TWO_SIDES = {"second_interface": "v1", "split": "10.0.0.0/8"}


refusal = partial(refusal_of, GOOD)
accept = partial(accepted, GOOD)


def test_the_defaults_are_valid_and_cannot_be_changed_afterwards() -> None:
    GOOD.validate()
    with pytest.raises(FrozenInstanceError):
        GOOD.batch = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": ()}, "no file"),
        ({"files": ("a.pcap", "")}, "without a name"),
        ({"files": ("-", "a.pcap", "-")}, "named twice"),
        ({"interface": ""}, "no interface"),
        ({"interface": "a/b"}, "'a/b'"),
        ({"queues": ()}, "leave it out for the first"),
        ({"queues": (0, -1)}, "--queues -1"),
        ({"queues": (1, 2, 1)}, "queue 1 is listed twice"),
        ({"netns": ""}, "--netns"),
    ],
)
def test_a_source_or_interface_that_cannot_exist_is_refused(
    changes: dict[str, Any], says: str
) -> None:
    assert says in refusal(**changes)


def test_files_may_be_sent_twice_and_standard_input_among_them() -> None:
    accept(files=("a.pcap", "-", "a.pcap"))


def test_two_interfaces_need_a_split_and_a_split_two_interfaces() -> None:
    assert refusal(second_interface="v1").startswith("-I: ")
    assert "--split" in refusal(second_interface="v1", split="")
    assert "add -I" in refusal(split="10.0.0.0/8")
    assert "the same as -i" in refusal(second_interface="v0", split="10.0.0.0/8")
    assert "'a b'" in refusal(second_interface="a b", split="10.0.0.0/8")
    accept(**TWO_SIDES)
    accept(second_interface="v1", split="web.split")


@pytest.mark.parametrize(
    ("split", "prefixes"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("10.0.0.0/8,2001:db8::/32", ["10.0.0.0/8", "2001:db8::/32"]),
        ("192.0.2.1", ["192.0.2.1/32"]),
        ("10.0.0.0/8.split", None),
        ("web.split", None),
    ],
)
def test_a_split_is_prefixes_or_else_a_files_path(split: str, prefixes: list[str] | None) -> None:
    found = replace(GOOD, split=split).split_prefixes
    assert found == (None if prefixes is None else tuple(map(ip_network, prefixes)))


PACES: dict[str, dict[str, Any]] = {
    "--speed": {"speed": 2.0},
    "--pps": {"pps": 1000.0},
    "--mbps": {"mbps": 100.0},
    "--top-speed": {"top_speed": True},
}


@pytest.mark.parametrize("one", PACES)
@pytest.mark.parametrize("other", PACES)
def test_two_paces_at_once_are_refused_by_both_names(one: str, other: str) -> None:
    if one == other:
        accept(**PACES[one])
        return
    line = refusal(**PACES[one], **PACES[other])
    assert one in line and other in line and "keep one" in line


@pytest.mark.parametrize("field", ["speed", "pps", "mbps"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, 1e-9, 1e12])
def test_a_pace_that_means_nothing_is_refused(field: str, value: float) -> None:
    assert refusal(**{field: value}).startswith(f"--{field} ")


def test_pauses_are_cut_only_where_they_are_recorded() -> None:
    accept(gap_limit_s=1.0)
    accept(gap_limit_s=1.0, speed=10.0)
    for option in ("--pps", "--mbps", "--top-speed"):
        assert refusal(gap_limit_s=1.0, **PACES[option]).startswith(f"--gap-limit with {option}")


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"launch_time": True}, "--launch-time"),
        ({"timer": "sleep"}, "--timer"),
        ({"late_s": 0.5}, "--late"),
    ],
)
def test_top_speed_has_no_use_for_times(changes: dict[str, Any], option: str) -> None:
    assert refusal(top_speed=True, **changes).startswith(f"{option} with --top-speed")
    accept(**changes)
    accept(pps=5.0, **changes)


@pytest.mark.parametrize("changes", [{"loop": 2}, {"loop": 0}, {"strict": True}])
def test_standard_input_is_read_twice_only_from_memory(changes: dict[str, Any]) -> None:
    line = refusal(files=("-",), **changes)
    assert "with standard input" in line and "add --preload" in line
    assert "with standard input" in refusal(files=("-",), preload=False, **changes)
    accept(files=("-",), preload=True, **changes)
    accept(**changes)
    accept(preload=False, **changes)


def test_a_cache_cannot_belong_to_standard_input() -> None:
    assert "a cache belongs to a file" in refusal(
        files=("-",), second_interface="v1", split="web.split"
    )
    accept(files=("-",), **TWO_SIDES)


def test_a_bound_decides_only_what_is_left_open() -> None:
    accept(preload_bound_bytes=MIB)
    accept(preload=True)
    assert refusal(preload=True, preload_bound_bytes=MIB).startswith(
        "--preload-bound with --preload:"
    )
    assert "--no-preload" in refusal(preload=False, preload_bound_bytes=MIB)


@pytest.mark.parametrize(
    ("field", "bad", "option"),
    [
        ("loop", -1, "--loop -1"),
        ("limit", 0, "--limit 0"),
        ("seed", -1, "--seed -1"),
        ("seed", 1 << 63, "--seed"),
        ("batch", 0, "--batch 0"),
        ("preload_bound_bytes", 0, "--preload-bound 0"),
        ("gap_limit_s", 0.0, "--gap-limit"),
        ("duration_s", 0.0, "--duration"),
        ("duration_s", math.nan, "--duration"),
        ("late_s", 0.0, "--late"),
        ("late_s", math.inf, "--late"),
        ("start_at_ns", -1, "--start-at"),
        ("stats_interval_s", 0.01, "--stats-interval 10ms"),
        ("stats_interval_s", math.nan, "--stats-interval"),
    ],
)
def test_a_number_out_of_range_names_its_option(field: str, bad: float, option: str) -> None:
    assert refusal(**{field: bad}).startswith(option)


@pytest.mark.parametrize("field", ["attach", "zero_copy", "timer"])
def test_an_unknown_mode_is_answered_with_the_modes_there_are(field: str) -> None:
    assert "choose one of" in refusal(**{field: "offload"})


def test_zero_copy_cannot_be_required_of_generic_mode() -> None:
    assert "--attach generic" in refusal(attach="generic", zero_copy="require")
    for attach in ("auto", "native", "none"):
        accept(attach=attach, zero_copy="require")


def test_a_cpu_outside_the_affinity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4})
    assert "may run on 0-1,4 only" in refusal(cpus=(0, 2))
    accept(cpus=(4, 4))


@pytest.mark.parametrize("vlan", ["", "add", "add:", "delete", "4095", "add:5000", "-1", "1x", "٣"])
def test_a_vlan_edit_that_is_none_is_refused(vlan: str) -> None:
    assert refusal(vlan=vlan).startswith("--vlan: ")


@pytest.mark.parametrize("vlan", ["add:0", "add:4094", "del", "7"])
def test_vlan_edits_are_accepted(vlan: str) -> None:
    accept(vlan=vlan)


@pytest.mark.parametrize(
    "pair", ["", "10.0.0.0/8", "10.0.0.0/8:", "10.0.0.0/8:2001:db8::/32", "10.0.0.1/8:11.0.0.0/8"]
)
def test_a_map_that_is_no_pair_of_prefixes_is_refused(pair: str) -> None:
    assert refusal(map_ip=(pair,)).startswith("--map-ip: ")


def test_a_prefix_is_mapped_once() -> None:
    one, other = "10.0.0.0/8:11.0.0.0/8", "10.0.0.0/8:12.0.0.0/8"
    assert "mapped twice" in refusal(map_ip=(one, other))
    accept(map_ip=(one, "11.0.0.0/8:10.0.0.0/8"))


def test_a_mac_address_has_six_bytes() -> None:
    assert "--dst-mac" in refusal(dst_mac=b"\2\0\0\0\0")
    assert "--src-mac" in refusal(src_mac=b"")
    accept(dst_mac=bytes(6), src_mac=bytes(6))


@pytest.mark.parametrize(
    ("verify", "target"),
    [
        ("v1", (None, "v1")),
        ("blue:v1", ("blue", "v1")),
        ("/run/netns/a:b:v1", ("/run/netns/a:b", "v1")),
    ],
)
def test_the_far_end_is_an_interface_with_or_without_its_namespace(
    verify: str, target: tuple[str | None, str]
) -> None:
    accept(verify=verify)
    assert replace(GOOD, verify=verify).verify_target == target


def test_the_near_end_is_not_the_far_end() -> None:
    assert "does not arrive there" in refusal(verify="v0")
    assert "does not arrive there" in refusal(netns="blue", verify="blue:v0")
    # In another namespace it is another interface of the same name.
    accept(verify="blue:v0")
    accept(netns="blue", verify="red:v0")


def test_one_far_end_cannot_see_both_sides() -> None:
    assert "--verify with -I" in refusal(verify="v2", **TWO_SIDES)


@pytest.mark.parametrize("verify", ["", "blue:", "a b"])
def test_a_far_end_that_is_no_interface_is_refused(verify: str) -> None:
    assert refusal(verify=verify).startswith("--verify ")


def test_memory_is_checked_as_for_a_recording() -> None:
    assert "--frame-size 3000" in refusal(frame_size=3000)
    assert "use 1024" in refusal(ring_size=1000)
    assert "multiple of the page size" in refusal(umem_size_bytes=PAGESIZE + 1)
    assert "use --umem-size 16MiB" in refusal(umem_size_bytes=MIB, ring_size=8192)
    accept(umem_size_bytes=MIB, ring_size=512)


def test_quiet_has_no_use_for_a_statistics_interval() -> None:
    assert "--stats-interval" in refusal(quiet=True, stats_interval_s=5.0)
    accept(quiet=True, json=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "the recorded times"),
        ({"speed": 1.0}, "the recorded times"),
        ({"speed": 2.5}, "the recorded times, 2.5 times as fast"),
        ({"gap_limit_s": 0.25}, "the recorded times, no pause longer than 250ms"),
        ({"pps": 12_500.0}, "12.5 kpps"),
        ({"mbps": 2500.0}, "2.5 Gb/s on the wire"),
        ({"top_speed": True}, "as fast as the link takes it"),
    ],
)
def test_the_pace_is_told_in_words(changes: dict[str, Any], text: str) -> None:
    assert replace(GOOD, **changes).pace_text == text


odd_numbers = st.one_of(
    st.integers(-(1 << 64), 1 << 64), st.sampled_from([1 << n for n in range(40)])
)


@settings(deadline=None)
@given(ring_size=odd_numbers, frame_size=odd_numbers, umem_size_bytes=odd_numbers)
def test_memory_that_is_accepted_always_holds_its_ring(**memory: Any) -> None:
    options = replace(GOOD, **memory)
    try:
        options.validate()
    except UsageError as error:
        assert "\n" not in str(error)
        return
    assert options.ring_size & (options.ring_size - 1) == 0
    assert 1 <= options.ring_size <= options.umem_size_bytes // options.frame_size


@settings(deadline=None)
@given(text=st.text(max_size=30))
def test_no_text_for_vlan_map_split_or_far_end_ends_in_anything_but_a_line(text: str) -> None:
    for changes in (
        {"vlan": text},
        {"map_ip": (text,)},
        {"verify": text},
        {"split": text, "second_interface": "v1"},
    ):
        options = replace(GOOD, **changes)
        try:
            options.validate()
        except UsageError as error:
            assert "\n" not in str(error)
