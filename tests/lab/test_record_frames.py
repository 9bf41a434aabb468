"""What was sent is in the files: every byte, in order, at every length, on every queue."""

from __future__ import annotations

import pytest
from capture_files import contents, flushed, of_queue, packets, parts, run, tshark_fields
from ledger_checks import Wire, check_books

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import Sender, send_frames

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
@pytest.mark.parametrize(("attach", "file_format"), [("native", "pcapng"), ("generic", "pcap")])
def test_every_length_is_recorded_byte_for_byte_in_order_on_its_own_queue(
    make_lab, record, queues, attach, file_format
):
    lab = make_lab(queues=queues, generic=attach == "generic" and queues > 1)
    result = send_and_record(lab, record, ["--attach", attach, "--format", file_format], LENGTHS)
    assert result.total["attach_mode"] == attach
    assert {path.suffix for path in result.files} == {f".{file_format}"}
    assert len(result.files) == queues


@pytest.mark.parametrize("queues", QUEUES)
@pytest.mark.parametrize(
    ("attach", "frame_size"), [("native", 2048), ("native", 4096), ("generic", 2048)]
)
def test_a_packet_of_several_frames_is_one_record(make_lab, record, queues, attach, frame_size):
    lab = make_lab(queues=queues, mtu=9000, generic=attach == "generic" and queues > 1)
    send_and_record(
        lab, record, ["--attach", attach, "--frame-size", str(frame_size)], LONG_LENGTHS * 8
    )


def test_packets_as_long_as_a_veth_takes_them_are_one_record_each(make_lab, record):
    lab = make_lab(mtu=65000)
    send_and_record(lab, record, [], [60, 20_000, 1514, 40_000, 65_000, 60])


@pytest.mark.parametrize("batch", [1, 7])
def test_a_batch_that_cuts_packets_of_several_frames_loses_none(make_lab, record, batch):
    """A batch ends in the middle of a packet, or is shorter than one."""
    lab = make_lab(mtu=9000)
    send_and_record(lab, record, ["--batch", str(batch)], LONG_LENGTHS * 20)


def test_batches_that_end_within_packets_keep_up(make_lab, record):
    """The loop goes on at once after a batch that was cut short, as after a full one."""
    lab = make_lab(mtu=3000)
    recorder = record("--json", "--batch", "3", "--umem-size", "128MiB", lab=lab)
    wire = Wire(lab)
    # Two frames each: a batch of three holds one.  The ring has room for a third of them.
    wire.blast(90_000, 3000, pps=60_000)
    arrived = wire.arrived()
    assert check_books(recorder.stop())["written"] == arrived


@pytest.mark.parametrize("frame_size", [2048, 4096])
def test_a_packet_that_fills_the_ring_is_whole_and_a_longer_one_vanishes_whole(
    make_lab, record, frame_size
):
    """Sixteen frames circulate: one byte more than they hold is one frame too many."""
    lab = make_lab(mtu=65000)
    ring = 16 if frame_size == 2048 else 8
    most = ring * (frame_size - 256)
    memory = ["--ring-size", str(ring), "--umem-size", str(ring * frame_size)]
    often = ["--flush-interval", "20ms"]
    recorder = record("--json", "--frame-size", str(frame_size), *memory, *often, lab=lab)
    (part,) = parts(recorder)
    lengths = [most, most + 1, 60, most - 1, most + 20_000, 1514, most]
    sent = frames_for(0, lengths)
    kept = []
    with Sender(lab) as sender:
        for frame in sent:
            sender.send([frame])
            if len(frame) <= most:
                kept.append(frame)
            # Once it is in the file the ring is empty again.
            recorder.wait_for(lambda: flushed(part) == kept)
    result = recorder.stop()
    assert check_books(result)["rx_dropped"] == len(sent) - len(kept)
    assert contents(result.files) == kept


@pytest.mark.parametrize(
    ("snaplen", "file_format"),
    [(1, "pcap"), (61, "pcapng"), (1792, "pcap"), (5000, "pcapng")],
)
def test_a_snapshot_is_cut_and_tells_the_length_on_the_wire(make_lab, record, snaplen, file_format):
    """Within the first frame, at its end, and in a later one."""
    lab = make_lab(mtu=9000)
    recorder = record("--json", "--snaplen", str(snaplen), "--format", file_format, lab=lab)
    sent = frames_for(0, LONG_LENGTHS)
    send_frames(lab, sent)
    result = recorder.stop()
    recorded = packets(result.files)
    assert [p.data for p in recorded] == [frame[:snaplen] for frame in sent]
    assert [p.origlen for p in recorded] == LONG_LENGTHS
    assert result.total["bytes_written"] == sum(min(n, snaplen) for n in LONG_LENGTHS)
    where = "file hdr: {} bytes" if file_format == "pcap" else "Capture length = {}\n"
    assert where.format(snaplen) in run("capinfos", result.files[0])
    rows = tshark_fields(result.files[0], "frame.cap_len", "frame.len")
    assert [[int(c), int(n)] for c, n in rows] == [[min(n, snaplen), n] for n in LONG_LENGTHS]
