"""Leaving libxdp's dispatcher: at the end, when killed, when somebody else was faster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from compiled_programs import compiled_text
from kernel_objects import descriptors, held_ids, still_there
from other_programs import (
    OtherProgram,
    attached_id,
    build,
    dispatcher,
    frames,
    members,
    pinned,
    where_freplace_loads,
)
from recorder import Recorder

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.programs import pinned_counters
from xdpcap.programs.builds import bare_variant
from xdpcap.programs.dispatcher_guardian import unpin
from xdpcap.programs.libxdp_dispatcher import DispatchedProgram, leave

# A user's program with a name of its own, which an earlier recording's is known by no other way.
MINE = """
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

SEC("xdp") int mine(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}
"""

pytestmark = pytest.mark.usefixtures("nothing_pinned")


@pytest.fixture
def record(patient_record: Callable[..., Recorder]) -> Callable[..., Recorder]:
    return patient_record


def marks() -> list[Path]:
    """The words that recordings have left of members of theirs."""
    return list(pinned_counters.BPFFS.glob("xdpcap/**/joined:*"))


def guardian_of(recorder: Recorder) -> int:
    """The process that takes the recording out of the dispatcher."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(") ")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (
            b"xdpcap.programs.dispatcher_guardian" in command
            and int(parent) == recorder.process.pid
        ):
            return int(entry.name)
    raise AssertionError("no guardian")


@where_freplace_loads
def test_a_killed_recording_is_taken_out_and_the_next_one_starts_at_once(lab, record, other):
    after = other(lab)
    recorder = record()
    recorder.kill()
    again = record("--json")
    assert members(lab) == ["xdpcap_record", "count_and_pass"]
    send_frames(lab, frames(20))
    assert again.stop().total["written"] == 20
    assert members(lab) == ["count_and_pass"] and after.seen == 0


@where_freplace_loads
def test_a_killed_recording_without_its_guardian_passes_everything_until_the_next_start(
    lab, record, other
):
    after = other(lab)
    recorder = record()
    os.kill(guardian_of(recorder), signal.SIGKILL)
    recorder.kill()
    assert members(lab) == ["xdpcap_record", "count_and_pass"]
    send_frames(lab, frames(30))
    assert after.seen == 30
    again = record("--json")
    assert "removed the program of a killed recording" in again.stderr
    assert members(lab) == ["xdpcap_record", "count_and_pass"]
    send_frames(lab, frames(40))
    assert again.stop().total["written"] == 40
    assert members(lab) == ["count_and_pass"] and after.seen == 30


@where_freplace_loads
@pytest.mark.parametrize("with_guardian", [False, True])
def test_a_users_program_that_a_killed_recording_left_is_known_whatever_it_is_called(
    lab, record, other, tmp_path, with_guardian
):
    after = other(lab)
    recorder = record("--bpf", str(compiled_text(MINE, tmp_path)), "--priority", "10")
    assert members(lab) == ["mine", "count_and_pass"]
    assert marks() != []
    if with_guardian:
        os.kill(guardian_of(recorder), signal.SIGKILL)
    recorder.kill()
    again = record("--json")
    assert ("removed the program of a killed recording" in again.stderr) == with_guardian
    assert members(lab) == ["xdpcap_record", "count_and_pass"]
    assert marks() == []
    send_frames(lab, frames(20))
    assert again.stop().total["written"] == 20
    assert members(lab) == ["count_and_pass"] and after.seen == 0


@where_freplace_loads
def test_a_mark_of_a_program_that_has_gone_is_of_no_other(lab, record, other, tmp_path):
    recorder = record("--bpf", str(compiled_text(MINE, tmp_path)), "--priority", "10")
    assert marks() == []  # without a dispatcher there is nothing to take it out of
    recorder.stop()
    there = other(lab)
    recorder = record("--bpf", str(compiled_text(MINE, tmp_path)), "--priority", "10")
    (mark,) = marks()
    assert recorder.stop().returncode == 0
    assert marks() == []
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.symlink_to(f"{there.prog_id}-1")  # an id that was given anew since
    again = record("--json")
    assert members(lab) == ["xdpcap_record", "count_and_pass"]
    assert again.stop().returncode == 0 and marks() == []


@where_freplace_loads
def test_a_stale_program_that_was_alone_takes_the_dispatcher_along(lab, record, tmp_path):
    with OtherProgram(lab, build(tmp_path)):
        recorder = record()
        os.kill(guardian_of(recorder), signal.SIGKILL)
        recorder.kill()
    assert members(lab) == ["xdpcap_record"]
    again = record("--json")
    assert dispatcher(lab) is None  # on a bpf_link now
    send_frames(lab, frames(5))
    assert again.stop().total["written"] == 5
    assert attached_id(lab) == 0


@where_freplace_loads
def test_a_recording_whose_guardian_was_killed_leaves_by_itself(lab, record, other):
    other(lab)
    recorder = record()
    os.kill(guardian_of(recorder), signal.SIGKILL)
    result = recorder.stop()
    assert result.returncode == 0 and "dispatcher:" not in result.stderr
    assert members(lab) == ["count_and_pass"]


@where_freplace_loads
def test_a_recording_that_gave_up_root_leaves_as_well(lab, record, other, tmp_path):
    other(lab)
    directory = Path("/tmp") / f"xdpcap-test-{os.getpid()}"
    directory.mkdir()
    try:
        os.chown(directory, 65534, 65534)
        recorder = record("--json", "--user", "nobody", directory=directory)
        send_frames(lab, frames(10))
        result = recorder.stop()
        assert result.returncode == 0 and result.total["written"] == 10
    finally:
        for path in (*directory.iterdir(), *Path(f"{directory}.logs").iterdir()):
            path.unlink()
        directory.rmdir()
        Path(f"{directory}.logs").rmdir()
    assert members(lab) == ["count_and_pass"]


@where_freplace_loads
def test_a_recording_that_was_unloaded_by_somebody_says_so_at_its_end(lab, record, other):
    other(lab)
    recorder = record()
    ours = dispatcher(lab).members[0]
    assert ours.name == "xdpcap_record"
    assert in_netns(lab.rx_ns, leave, lab.rx_ifindex, ours.prog_id)
    assert "nothing came since" in recorder.stop().stderr
    assert members(lab) == ["count_and_pass"]


@where_freplace_loads
def test_an_interface_that_is_deleted_takes_the_recording_along(make_lab, record, tmp_path):
    lab = make_lab()
    with OtherProgram(lab, build(tmp_path)) as present:
        recorder = record(lab=lab)
        ours = dispatcher(lab).members[0].prog_id
        lab.close()
        result = recorder.stop(None)
        assert result.returncode == 1 and "was deleted" in result.stderr
        assert "dispatcher:" not in result.stderr
        assert still_there("prog", {ours}) == set()
        # The other's pins are libxdp's business; `xdp-loader clean` is the command.
        assert len(pinned(lab)) == 2
        assert unpin(lab.rx_ifindex, present.prog_id) == 2


@where_freplace_loads
def test_joining_and_leaving_as_a_library_leaves_nothing_open(lab, other):
    other(lab)

    def join_and_leave() -> int:
        with DispatchedProgram(bare_variant(False).path, 1) as program:
            program.attach(lab.rx_ifindex, "native")
            assert program.verdicts()[0].passed == 0
            return program.prog_id

    before, programs = descriptors(), held_ids("prog")
    joined = [in_netns(lab.rx_ns, join_and_leave) for _ in range(3)]
    assert descriptors() == before and held_ids("prog") == programs
    assert still_there("prog", joined) == set()
