"""What was sent is in the files: every byte, in order, at every length, on every queue."""

from __future__ import annotations

import pytest
from accounts import Wire, check_books
from captured import of_queue, packets

from xdpcap.lab.frames import numbered_frame

# Every short length once, and a full frame between them.
LENGTHS = [length for short in range(60, 201) for length in (short, 1514)]
# About the room of one, two and more frames of 2048 and of 4096 (256 bytes are the kernel's).
LONG_LENGTHS = [60, 1514, 1791, 1792, 1793, 3584, 3585, 3839, 3840, 3841, 7680, 7681, 9000, 9018]
QUEUES = [1, 2, 4]


def frames_for(queue: int, lengths: list[int]) -> list[bytes]:
    """Frames that no other queue gets."""
    return [numbered_frame(length, queue << 32 | n) for n, length in enumerate(lengths)]


def send_and_record(lab, record, arguments, lengths, **options):
    """Send to each queue what is its own; assert that it is in that queue's files."""
    recorder = record("--json", *arguments, lab=lab, **options)
    wire = Wire(lab)
    for queue in range(lab.queues):
        wire.send(frames_for(queue, lengths), queue)
    assert wire.arrived() == wire.sent
    result = recorder.stop()
    assert check_books(result)["written"] == wire.sent
    for queue in range(lab.queues):
        recorded = packets(of_queue(result, queue))
        assert [p.data for p in recorded] == frames_for(queue, lengths)
        assert [p.origlen for p in recorded] == lengths
    return result


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("attach", ["native", "generic"])
@pytest.mark.parametrize("file_format", ["pcapng", "pcap"])
def test_every_length_is_recorded_byte_for_byte_in_order_on_its_own_queue(
    make_lab, record, queues, attach, file_format
):
    lab = make_lab(queues=queues, generic=attach == "generic" and queues > 1)
    result = send_and_record(lab, record, ["--attach", attach, "--format", file_format], LENGTHS)
    assert result.total["attach_mode"] == attach
    assert {path.suffix for path in result.files} == {f".{file_format}"}
    assert len(result.files) == queues


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize("attach", ["native", "generic"])
@pytest.mark.parametrize("frame_size", [2048, 4096])
def test_a_packet_of_several_frames_is_one_record(make_lab, record, queues, attach, frame_size):
    lab = make_lab(queues=queues, mtu=9000, generic=attach == "generic" and queues > 1)
    send_and_record(
        lab, record, ["--attach", attach, "--frame-size", str(frame_size)], LONG_LENGTHS * 8
    )


def test_packets_as_long_as_a_veth_takes_them_are_one_record_each(make_lab, record):
    lab = make_lab(mtu=65000)
    send_and_record(lab, record, [], [60, 20_000, 1514, 40_000, 65_000, 60])


@pytest.mark.parametrize("batch", [1, 3, 6, 7])
def test_a_batch_that_cuts_packets_of_several_frames_loses_none(make_lab, record, batch):
    """A batch ends in the middle of a packet, or is shorter than one."""
    lab = make_lab(mtu=9000)
    send_and_record(lab, record, ["--batch", str(batch)], LONG_LENGTHS * 20)


def test_batches_that_end_within_packets_keep_up(make_lab, record):
    """The loop goes on at once after a batch that was cut short, as after a full one."""
    lab = make_lab(mtu=3000)
    recorder = record("--json", "--batch", "3", lab=lab)
    wire = Wire(lab)
    # Two frames each: a batch of three holds one.  The ring has room for a third of them.
    wire.blast(48_000, 3000, pps=60_000)
    assert wire.arrived() == wire.sent
    assert check_books(recorder.stop())["written"] == wire.sent
