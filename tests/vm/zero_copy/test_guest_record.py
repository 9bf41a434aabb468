"""`xdpcap record` on a guest's NICs: what is granted, and that every packet is in the file."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest
from capture_files import contents, numbers, of_queue
from forked_command import COMMAND, ROOT
from ledger_checks import check_books
from leftovers import attached
from nic_pair import NicPair, send

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame

TICK = re.compile(r"s rx0: ([\d ]+) packets,")


def received(recorder) -> int:
    """Packets received by the last line of statistics."""
    ticks = TICK.findall(recorder.stderr)
    return int(ticks[-1].replace(" ", "")) if ticks else 0


def record_all(lab, recorder, sent):
    """Send the frames and stop when they have come; the `Result`."""
    assert send(lab, sent) == len(sent)
    recorder.wait_for(lambda: received(recorder) >= len(sent), 30.0)
    result = recorder.stop(timeout_s=30.0)
    assert result.returncode == 0, result.stderr
    return result


def check_in_order(result, sent) -> None:
    """Every frame is in the files once, as it was sent, and each queue's are in order."""
    for row in result.report["interfaces"][0]["queues"]:
        found = numbers(of_queue(result, row["queue"]))
        assert found == sorted(set(found))
    assert sorted(contents(result.files)) == sorted(sent)


@pytest.mark.parametrize("size", [60, 1514])
def test_every_packet_sent_is_written_in_order_byte_for_byte(lab, record, expected, size, tell):
    sent = [numbered_frame(size, number) for number in range(600)]
    recorder = record("--json")
    verdict = recorder.stderr
    result = record_all(lab, recorder, sent)
    check_in_order(result, sent)
    total = check_books(result)
    assert total["seen"] == total["written"] == len(sent)
    assert total["rx_dropped"] == total["rx_ring_full"] == total["write_dropped"] == 0
    interface = result.report["interfaces"][0]
    granted = [row["zero_copy"] for row in interface["queues"]]
    assert granted == [expected.zero_copy] * lab.queues
    assert interface["attach_mode"] == "native"
    (queues,) = re.findall(r"^  queues (.*)", verdict, re.M)
    assert ("zero-copy" in queues) == expected.zero_copy
    assert expected.clock in verdict
    # virtio_net and igb take no packets of several frames in zero-copy mode: the MTU fits one.
    if not expected.multi_buffer:
        assert "one frame a packet" in verdict
    tell(
        attach=interface["attach_mode"],
        record="zero-copy" if all(granted) else "copy",
        multi_buffer="multi-buffer" in queues,
        clock=expected.clock,
        queues=lab.queues,
    )


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_the_command_itself_records(lab, tmp_path):
    """`python -m xdpcap`, by which no other test here starts it (forked_command.py)."""
    command = [*COMMAND, "record", "-i", "rx0", "-o", tmp_path, "--duration", "1s", "--json"]
    done = in_netns(
        lab.rx_ns, subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "zero-copy" in done.stderr
    assert "Traceback" not in done.stderr


def test_require_is_granted_or_fails_in_one_line_with_nothing_left(lab, record, expected):
    recorder = record("--json", "--zero-copy", "require", ready=expected.zero_copy)
    if expected.zero_copy:
        assert recorder.stop(timeout_s=30.0).returncode == 0
        return
    result = recorder.wait(60.0)
    assert result.returncode in (1, 2)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("xdpcap: ") and "zerocopy" in last.lower().replace("-", ""), (
        result.stderr
    )
    assert "Traceback" not in result.stderr
    assert attached(lab) is None
    assert result.files == []


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_off_copies_where_the_driver_could_do_without(lab, record):
    sent = [numbered_frame(60, number) for number in range(200)]
    result = record_all(lab, record("--json", "--zero-copy", "off"), sent)
    check_in_order(result, sent)
    assert not any(row["zero_copy"] for row in result.report["interfaces"][0]["queues"])


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_a_kill_leaves_nothing_and_the_next_recording_is_as_good(lab, record, expected):
    recorder = record("--flush-interval", "200ms")
    send(lab, [numbered_frame(60, number) for number in range(300)])
    recorder.wait_for(lambda: received(recorder) >= 300, 30.0)
    recorder.stop(signal.SIGKILL)
    recorder.wait_for(lambda: attached(lab) is None)
    if isinstance(lab, NicPair):
        lab.wait_up()
    sent = [numbered_frame(60, number) for number in range(300)]
    result = record_all(lab, record("--json"), sent)
    check_in_order(result, sent)
    assert result.total["zero_copy"] == expected.zero_copy


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_ten_recordings_in_a_row_are_alike(lab, record):
    for _ in range(10):
        result = record("--json").stop(timeout_s=30.0)
        assert result.returncode == 0, result.stderr
        assert result.total["zero_copy"]
        assert attached(lab) is None
    lab.wait_up()
    sent = [numbered_frame(60, number) for number in range(100)]
    check_in_order(record_all(lab, record("--json"), sent), sent)
