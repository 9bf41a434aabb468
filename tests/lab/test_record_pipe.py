"""`-o -`: the packets of all queues as one stream, read by whoever is behind the pipe."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time

import pytest
from ledger_checks import Wire
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import frame_number, mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.savefile.reader import read_packets

SOON_S = 5.0
# What is promised for a stop is 2 seconds; a test machine may be busy as well.
STOP_S = 3.0
# A ring of 1024 and two blocks: what a reader that stands still lets fill up soon.
SMALL = ("--umem-size", "2MiB", "--write-buffer", "256KiB", "--write-buffer-count", "2")


class Behind:
    """What stands behind the pipe: a command, or this process when there is none."""

    def __init__(self, *command: str) -> None:
        self.reader, self.writer = os.pipe()
        self.process = None
        if command:
            # Not another pipe, which would be full in turn.
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 (goes with this object)
            self.process = subprocess.Popen(
                command, stdin=self.reader, stdout=self._output, stderr=subprocess.DEVNULL
            )
            os.close(self.reader)

    def started(self) -> None:
        """The recorder has its end: ours is closed, so that the reader sees the end."""
        os.close(self.writer)

    def output(self) -> bytes:
        """What the command printed, once it has ended well."""
        assert self.process.wait(30) == 0
        self._output.seek(0)
        return self._output.read()

    def read_for(self, seconds: float) -> bytes:
        """What is in the pipe, until nothing comes for so long."""
        data = b""
        while select.select([self.reader], [], [], seconds)[0]:
            piece = os.read(self.reader, 1 << 20)
            if not piece:
                break
            data += piece
        return data


@pytest.fixture
def record_into(record):
    """A factory: `record_into(behind, *arguments, lab=...)`, recording into its pipe."""

    def start(behind: Behind, *arguments: str, **options):
        recorder = record(
            *arguments, output="-", preexec=lambda: os.dup2(behind.writer, 1), **options
        )
        behind.started()
        return recorder

    return start


def summary(result) -> dict[str, int]:
    """The counts of the summary on standard error: captured, received by filter, ..."""
    lines = re.findall(r"^(\d+) packets? (captured|received by filter|dropped by kernel)$",
                       result.stderr, re.M)  # fmt: skip
    found = {name: int(count) for count, name in lines}
    dropped = re.search(r"^\s*(\d+) write_dropped: ", result.stderr, re.M)
    return {**found, "write_dropped": int(dropped[1]) if dropped else 0}


def of_each_queue(packets, queues: int) -> list[list[bytes]]:
    """The packets by the queue that stands in the upper half of their number."""
    found: list[list[bytes]] = [[] for _ in range(queues)]
    for packet in packets:
        found[frame_number(packet.data) >> 32].append(packet.data)
    return found


def frames(queue: int, count: int) -> list[bytes]:
    return [numbered_frame(60 + n % 1400, queue << 32 | n) for n in range(count)]


# --- read by others


@pytest.mark.parametrize("file_format", ["pcapng", "pcap"])
@pytest.mark.parametrize("queues", [1, 2])
def test_tcpdump_reads_every_packet_from_the_pipe(make_lab, record_into, queues, file_format):
    lab = make_lab(queues=queues)
    behind = Behind("tcpdump", "-r", "-", "--nano", "-w", "-")
    recorder = record_into(behind, "--format", file_format, lab=lab)
    sent = [frames(queue, 1500) for queue in range(queues)]
    for queue, of_queue in enumerate(sent):
        send_frames(lab, of_queue, queue)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert of_each_queue(read_packets(io.BytesIO(behind.output())), queues) == sent
    assert summary(result) == {
        "captured": 1500 * queues,
        "received by filter": 1500 * queues,
        "dropped by kernel": 0,
        "write_dropped": 0,
    }
    assert result.files == []


@pytest.mark.parametrize("queues", [1, 2])
def test_tshark_reads_queues_and_ids_from_the_pipe(make_lab, record_into, queues):
    lab = make_lab(queues=queues)
    fields = ("frame.len", "frame.interface_queue", "frame.packet_id", "frame.interface_name")
    wanted = [word for field in fields for word in ("-e", field)]
    behind = Behind("tshark", "-r", "-", "-n", "-T", "fields", *wanted)
    recorder = record_into(behind, lab=lab)
    for queue in range(queues):
        send_frames(lab, frames(queue, 300), queue)
    assert recorder.stop().returncode == 0
    rows = [line.split("\t") for line in behind.output().decode().splitlines()]
    for queue in range(queues):
        mine = [row for row in rows if int(row[1]) == queue]
        assert [int(row[0]) for row in mine] == [len(frame) for frame in frames(queue, 300)]
        assert [int(row[2], 0) for row in mine] == [queue << 48 | n for n in range(300)]
        assert {row[3] for row in mine} == {"rx0"}


def test_a_packet_comes_out_of_the_pipe_within_the_flush_interval(lab, record_into):
    behind = Behind()
    recorder = record_into(behind, "--flush-interval", "100ms", lab=lab)
    data = b""
    for number in range(3):
        send_frames(lab, [numbered_frame(60, number)])
        deadline = time.monotonic() + SOON_S * PATIENCE
        while len(list(read_packets(io.BytesIO(data)))) <= number if data else True:
            assert time.monotonic() < deadline
            data += behind.read_for(0.02)
    assert recorder.stop().returncode == 0
    assert [frame_number(p.data) for p in read_packets(io.BytesIO(data))] == [0, 1, 2]


def test_a_recording_of_so_many_packets_ends_the_pipe_after_them(lab, record_into):
    behind = Behind("tcpdump", "-r", "-", "-n", "-q")
    recorder = record_into(behind, "--count", "5", lab=lab)
    send_frames(lab, frames(0, 20))
    assert recorder.wait().returncode == 0
    assert len(behind.output().splitlines()) == 5


def test_standard_output_may_be_a_file(lab, record, tmp_path):
    path = tmp_path / "all.pcapng"
    with path.open("wb") as file:
        recorder = record(output="-", preexec=lambda: os.dup2(file.fileno(), 1))
        sent = list(mixed_frames(1000))
        send_frames(lab, sent)
        assert recorder.stop().returncode == 0
    assert [packet.data for packet in read_packets(path)] == sent


# --- readers that do not read


def test_the_records_of_two_queues_never_mix_in_a_pipe_that_is_always_full(make_lab, record_into):
    lab = make_lab(queues=2)
    behind = Behind()
    recorder = record_into(behind, lab=lab)
    data = bytearray()

    def read_in_small_pieces():
        while piece := os.read(behind.reader, 4001):
            data.extend(piece)

    reading = threading.Thread(target=read_in_small_pieces)
    reading.start()
    sent = [frames(queue, 6000) for queue in range(2)]
    senders = [
        threading.Thread(target=send_frames, args=(lab, sent[queue], queue)) for queue in range(2)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    result = recorder.stop()
    reading.join(SOON_S)
    assert result.returncode == 0, result.stderr
    assert of_each_queue(read_packets(io.BytesIO(bytes(data))), 2) == sent


def test_a_reader_that_goes_away_ends_the_recording_and_every_packet_is_counted(lab, record_into):
    behind = Behind("head", "-c", "5000")
    recorder = record_into(behind, "--flush-interval", "50ms", lab=lab)
    wire = Wire(lab)
    deadline = time.monotonic() + SOON_S * PATIENCE
    while recorder.process.poll() is None:
        assert time.monotonic() < deadline, recorder.stderr
        wire.send([numbered_frame(600, wire.sent)])
        time.sleep(0.005)
    result = recorder.wait()
    assert result.returncode == 1
    assert "the reader has gone" in result.stderr
    assert "Traceback" not in result.stderr
    counted = summary(result)
    assert counted["captured"] > 0 and counted["write_dropped"] > 0
    assert counted["captured"] + counted["write_dropped"] == counted["received by filter"]
    # What head let through are the first packets, undamaged.
    through = list(read_packets(io.BytesIO(behind.output()), tolerant=True))
    assert [p.data for p in through] == [numbered_frame(600, n) for n in range(len(through))]
    assert len(through) > 3


def test_a_reader_that_stalls_and_comes_back_finds_a_whole_stream_and_the_loss_is_counted(
    lab, record_into
):
    behind = Behind()
    recorder = record_into(behind, *SMALL, lab=lab)
    wire = Wire(lab)
    # Pipe, blocks and ring hold about two thousand of these.
    wire.send(numbered_frame(1000, number) for number in range(6000))
    wire.arrived()
    data = behind.read_for(0.3)
    # Room again: what comes now comes through.
    wire.send(numbered_frame(1000, number) for number in range(6000, 6100))
    wire.arrived()
    data += behind.read_for(1.5)
    recorder.send_signal(signal.SIGINT)
    data += behind.read_for(SOON_S)
    result = recorder.wait()
    assert result.returncode == 0, result.stderr
    packets = list(read_packets(io.BytesIO(data)))
    found = [frame_number(packet.data) for packet in packets]
    assert found == sorted(set(found))
    assert found[-100:] == list(range(6000, 6100))
    counted = summary(result)
    assert counted["received by filter"] == 6100
    assert counted["captured"] == len(found) < 6100
    assert counted["dropped by kernel"] == 6100 - len(found)
    told = sum(packet.options.get("epb_dropcount", 0) for packet in packets)
    assert told == counted["dropped by kernel"]


@pytest.mark.parametrize("queues", [1, 2])
def test_a_reader_that_stalls_for_good_delays_the_end_a_little_and_is_left_a_readable_beginning(
    make_lab, record_into, queues
):
    lab = make_lab(queues=queues)
    behind = Behind()
    recorder = record_into(behind, lab=lab)
    for queue in range(queues):
        send_frames(lab, frames(queue, 3000), queue)
    result = recorder.stop()
    assert result.seconds < STOP_S
    assert result.returncode == 1
    counted = summary(result)
    assert counted["received by filter"] == 3000 * queues
    assert counted["captured"] + counted["write_dropped"] == 3000 * queues
    # Whole records, then perhaps one that was torn, and nothing behind that.
    data = behind.read_for(0.2)
    packets = list(read_packets(io.BytesIO(data), tolerant=True))
    for queue, found in enumerate(of_each_queue(packets, queues)):
        assert found == frames(queue, len(found))
    whole = sum(len(frame) for found in of_each_queue(packets, queues) for frame in found)
    assert len(data) - whole < len(packets) * 80 + 1600 + 1000
    assert counted["captured"] <= len(packets)
