"""The command line end to end, through the fixture that every recording test uses."""

from __future__ import annotations

import signal

from recorder import Result

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.programs.program import attached_program
from xdpcap.savefile.reader import read_packets


def packets_of(result: Result) -> list[bytes]:
    return [packet.data for path in result.files for packet in read_packets(path)]


def test_what_was_sent_is_in_the_file_byte_for_byte_and_the_ledger_balances(lab, record):
    sent = list(mixed_frames(2000))
    recorder = record("--json")
    send_frames(lab, sent)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert packets_of(result) == sent
    assert result.total["seen"] == result.total["written"] == len(sent)
    assert result.total["unaccounted"] == 0
    assert [file["path"] for file in result.report["files"]] == [str(p) for p in result.files]


def test_each_queue_has_its_own_file_with_its_own_packets(make_lab, record):
    lab = make_lab(queues=2)
    sent = [[numbered_frame(64 + queue, number) for number in range(500)] for queue in (0, 1)]
    recorder = record("--json", lab=lab)
    for queue, frames in enumerate(sent):
        send_frames(lab, frames, queue)
    result = recorder.stop()
    assert [[p.data for p in read_packets(path)] for path in result.files] == sent


def test_a_quiet_recording_says_nothing_and_is_told_ready_by_its_program(lab, record):
    recorder = record("--quiet")
    assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex).name == "xdpcap_record"
    send_frames(lab, [numbered_frame(60, 7)])
    result = recorder.stop()
    assert (result.returncode, result.stderr, result.stdout) == (0, "", b"")
    assert len(packets_of(result)) == 1


def test_a_command_that_can_not_begin_ends_with_one_line_and_attaches_nothing(lab, record):
    result = record("--json", interfaces=["rx9"], ready=False).wait()
    assert result.returncode == 2
    assert result.stderr.startswith("xdpcap: ") and result.stderr.count("\n") == 1
    assert "rx9" in result.stderr
    assert result.files == [] and result.stdout == b""
    assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None


def test_the_program_of_a_killed_recording_is_gone_and_the_next_one_starts(lab, record):
    killed = record()
    assert killed.stop(signal.SIGKILL).returncode == -signal.SIGKILL
    killed.wait_for(lambda: in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None)
    recorder = record("--json")
    send_frames(lab, [numbered_frame(60, 1)])
    assert recorder.stop().total["written"] == 1
