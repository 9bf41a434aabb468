"""Recording beside other programs under libxdp's dispatcher: who joins, and where.

Where the kernel has no freplace (it needs ftrace's direct calls) the dispatcher can't be
joined, and what is tested is that it is left alone; everywhere else, that it is joined.
tests/README.md tells how to have both.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from capture_files import contents
from compiled_programs import PROGRAMS, compiled
from kernel_objects import descriptors, held_ids
from other_programs import (
    EmptyDispatcher,
    OtherProgram,
    attached_id,
    build,
    dispatcher,
    frames,
    freplace_errno,
    members,
    where_freplace_does_not_load,
    where_freplace_loads,
)
from recorder import Recorder
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import blast, send_frames
from xdpcap.host import kernel

# A program of somebody else's with a map for sockets, and nothing of our header.
REDIRECT_BARE = PROGRAMS / "redirect_bare.bpf.c"

pytestmark = pytest.mark.usefixtures("nothing_pinned")


@pytest.fixture
def record(patient_record: Callable[..., Recorder]) -> Callable[..., Recorder]:
    return patient_record


# -- on every kernel -----------------------------------------------------------------------


def test_the_dispatcher_is_read_as_it_is_and_no_descriptor_stays_open(lab):
    before, programs = descriptors(), held_ids("prog")
    with EmptyDispatcher(lab) as present:
        inside = descriptors()
        found = dispatcher(lab)
        assert (found.prog_id, found.mode, found.members) == (present.prog_id, "native", [])
        assert descriptors() == inside
    assert descriptors() == before and held_ids("prog") == programs


def test_a_dispatcher_whose_pins_can_not_be_read_is_refused_and_left_alone(lab, record):
    with EmptyDispatcher(lab, pinned=False) as present:
        result = record(ready=False).wait()
        assert attached_id(lab) == present.prog_id
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"xdp_dispatcher (id {present.prog_id})" in result.stderr
    assert "Unable to read pinned progs" in result.stderr and "mount -t bpf" in result.stderr


def test_without_a_dispatcher_nothing_is_joined(lab, record):
    recorder = record("--json")
    assert attached_id(lab) and dispatcher(lab) is None
    assert "libxdp" not in recorder.stderr
    assert recorder.stop().returncode == 0


# -- where the dispatcher can't be joined ---------------------------------------------------


@where_freplace_does_not_load
def test_a_dispatcher_that_can_not_be_joined_is_named_with_its_errno_and_left_alone(lab, record):
    with EmptyDispatcher(lab) as present:
        result = record("--json", ready=False).wait()
        assert attached_id(lab) == present.prog_id
        assert dispatcher(lab).members == []
    name = errno.errorcode[freplace_errno()]
    assert result.returncode == 1 and result.stdout == b"" and result.files == []
    assert result.stderr.startswith(
        f"xdpcap: rx0: libxdp's dispatcher can't be joined on this kernel: {name} "
    )
    assert result.stderr.count("\n") == 1 and "xdp-loader unload rx0 --all" in result.stderr


@where_freplace_does_not_load
def test_a_mode_that_is_not_the_dispatchers_is_refused_before_anything_else(lab, record):
    with EmptyDispatcher(lab) as present:
        result = record("--attach", "generic", ready=False).wait()
        assert attached_id(lab) == present.prog_id
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "attached in native mode" in result.stderr and "--attach generic" in result.stderr


# -- where it can -----------------------------------------------------------------------------


@where_freplace_loads
def test_a_recording_is_one_of_the_dispatchers_members_and_the_others_outlast_it(
    lab, record, other
):
    before, after = other(lab, priority=10), other(lab, priority=50)
    sent = frames(1000)
    recorder = record("--json")
    assert members(lab) == ["count_and_pass", "xdpcap_record", "count_and_pass"]
    send_frames(lab, sent)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert result.seconds < 2.0 * PATIENCE
    assert contents(result.files) == sent
    assert result.total["seen"] == result.total["written"] == len(sent)
    assert result.total["unaccounted"] == 0
    assert result.report["interfaces"][0]["attach_mode"] == "native"
    assert (before.seen, after.seen) == (1000, 0)
    assert members(lab) == ["count_and_pass", "count_and_pass"]
    send_frames(lab, frames(70))
    assert (before.seen, after.seen) == (1070, 70)


@where_freplace_loads
def test_a_mirror_leaves_every_packet_to_the_members_after_it(lab, record, other):
    before, after = other(lab, priority=10), other(lab, priority=50)
    sent = frames(500)
    recorder = record("--json", "--mirror")
    assert members(lab) == ["count_and_pass", "xdpcap_record", "count_and_pass"]
    send_frames(lab, sent)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert contents(result.files) == sent
    assert result.total["mirrored"] == result.total["written"] == len(sent)
    assert (before.seen, after.seen) == (500, 500)
    assert members(lab) == ["count_and_pass", "count_and_pass"]


@where_freplace_loads
@pytest.mark.parametrize(("unmatched", "reached"), [("pass", 60), ("drop", 0)])
def test_what_a_filter_leaves_out_goes_to_the_members_after_it_or_nowhere(
    lab, record, other, unmatched, reached
):
    after = other(lab, priority=90)
    # IPv4 with protocol 6 in the place of 17; the filter looks no further.
    tcp = [frame[:23] + b"\x06" + frame[24:] for frame in frames(40)]
    recorder = record("--json", "--unmatched", unmatched, "tcp")
    send_frames(lab, frames(60) + tcp)
    result = recorder.stop()
    assert contents(result.files) == tcp
    total = result.total
    assert (total["filtered"], total["written"], total["unaccounted"]) == (60, len(tcp), 0)
    assert after.seen == reached


@where_freplace_loads
def test_a_priority_puts_the_recording_behind_those_with_lower_ones(lab, record, other):
    first = other(lab, priority=50)
    recorder = record("--json", "--priority", "60")
    assert "priority 60; runs before, so what it keeps is not recorded" in recorder.stderr
    assert members(lab) == ["count_and_pass", "xdpcap_record"]
    assert [member.priority for member in dispatcher(lab).members] == [50, 60]
    send_frames(lab, frames(40))
    assert recorder.stop().total["written"] == first.seen == 40
    assert members(lab) == ["count_and_pass"]


@where_freplace_loads
@pytest.mark.parametrize("place", [None, 5])
def test_a_users_program_joins_where_it_says_itself_or_as_it_is_told(
    lab, record, other, tmp_path, place
):
    after = other(lab, priority=90)
    path = compiled(REDIRECT_BARE, tmp_path)
    told = [] if place is None else ["--priority", str(place)]
    recorder = record("--json", "--bpf", str(path), *told)
    # Without a run configuration in the object it is libxdp's default.
    assert [member.priority for member in dispatcher(lab).members] == [place or 50, 90]
    sent = frames(100)
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    assert result.total["seen"] == 100 and result.total["unaccounted"] == 0
    assert result.report["interfaces"][0]["counted_by"] == "worker"
    assert (members(lab), after.seen) == (["count_and_pass"], 0)


@where_freplace_loads
def test_a_users_program_that_takes_one_buffer_is_refused_where_the_others_take_several(
    lab, record, other, tmp_path
):
    other(lab, multi_buffer=True)
    before = dispatcher(lab)
    path = compiled(REDIRECT_BARE, tmp_path)
    result = record("--bpf", str(path), ready=False).wait()
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "accepts multi-buffer packets and xdpcap_record does not" in result.stderr
    assert dispatcher(lab) == before


@where_freplace_loads
def test_programs_after_the_recording_see_the_queues_that_are_not_recorded(make_lab, record, other):
    lab = make_lab(queues=2)
    after = other(lab)
    recorder = record("--json", "--queues", "1", lab=lab)
    send_frames(lab, frames(300), 0)
    send_frames(lab, frames(200), 1)
    result = recorder.stop()
    assert result.report["interfaces"][0]["uncovered_passed"] == after.seen == 300
    assert result.total["written"] == 200 and result.total["unaccounted"] == 0


@where_freplace_loads
def test_a_blast_is_counted_to_the_packet_in_the_dispatcher(lab, record, other):
    before = other(lab, priority=10)
    recorder = record("--json")
    blast(lab, 100_000)
    total = recorder.stop().total
    # What the veth's own ring of 256 packets had no room for, no program has seen.
    assert total["seen"] == before.seen > 10_000
    assert total["seen"] == total["written"] + total["rx_dropped"] + total["rx_ring_full"]
    assert total["unaccounted"] == 0


@where_freplace_loads
def test_the_dispatchers_mode_is_taken_and_another_is_refused(make_lab, record, other):
    lab = make_lab(generic=True)
    after = other(lab, mode="generic")
    refused = record("--attach", "native", lab=lab, ready=False).wait()
    assert refused.returncode == 2 and "attached in generic mode" in refused.stderr
    recorder = record("--json", lab=lab)
    send_frames(lab, frames(100))
    result = recorder.stop()
    assert result.report["interfaces"][0]["attach_mode"] == "generic"
    assert result.total["written"] == 100 and after.seen == 0
    assert members(lab) == ["count_and_pass"] and dispatcher(lab).mode == "generic"


@where_freplace_loads
@pytest.mark.parametrize("multi_buffer", [True, False])
def test_the_dispatcher_keeps_its_fitness_for_several_buffers(
    make_lab, record, other, multi_buffer
):
    lab = make_lab(mtu=9000 if multi_buffer else 1500)
    other(lab, multi_buffer=multi_buffer)
    fit = dispatcher(lab).multi_buffer
    assert fit == multi_buffer
    if multi_buffer and not kernel.has_multi_buffer():
        before = dispatcher(lab)
        result = record(lab=lab, ready=False).wait()
        assert result.returncode == 1 and "need Linux 6.6" in result.stderr
        assert dispatcher(lab) == before
        return
    sent = [numbered_frame(9014 if multi_buffer else 1514, number) for number in range(50)]
    recorder = record("--json", lab=lab)
    assert dispatcher(lab).multi_buffer == fit
    send_frames(lab, sent)
    assert contents(recorder.stop().files) == sent
    assert dispatcher(lab).multi_buffer == fit


@where_freplace_loads
def test_a_second_recording_on_the_interface_is_refused_and_names_the_first(
    lab, record, other, tmp_path
):
    other(lab)
    first = record("--json")
    refused = record(ready=False, directory=tmp_path / "second").wait()
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert f"another xdpcap (process {first.process.pid})" in refused.stderr
    send_frames(lab, frames(10))
    assert first.stop().total["written"] == 10


@where_freplace_loads
def test_a_full_dispatcher_is_refused_and_left_alone(lab, record, tmp_path):
    path = build(tmp_path)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(OtherProgram(lab, path))
        before = dispatcher(lab)
        result = record(ready=False).wait(60)
        assert dispatcher(lab) == before
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "E2BIG" in result.stderr and "ten members" in result.stderr
