"""The ledger under stress: every packet sent is somewhere, and in one place only."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from file_systems import small_ext4, small_tmpfs
from ledger_checks import Wire, check_books
from leftovers import missing
from patched_command import older_kernel

from xdpcap.bench.lab.frames import blasted_frame, frame_number, numbered_frame
from xdpcap.bench.lab.traffic import Sender
from xdpcap.savefile.reader import read_blocks, read_packets

# The ring of the default memory: 64 MiB in frames of 2048.
DEFAULT_RING = 32768


def contents(result):
    return [packet.data for path in result.files for packet in read_packets(path)]


def stand_still(recorder):
    """Stop the whole process, and return when the kernel has stopped every thread of it."""
    recorder.send_signal(signal.SIGSTOP)
    recorder.wait_for(lambda: not running_threads(recorder.process.pid))


def running_threads(pid):
    """The threads of a process that are not stopped."""
    return [t for t in os.listdir(f"/proc/{pid}/task") if state_of(pid, t) not in ("T", "t")]


def state_of(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


# --- a slow consumer


def test_what_a_stopped_recorder_could_not_take_is_lost_in_the_kernel_and_counted(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", lab=lab)
    wire = Wire(lab)
    stand_still(recorder)
    wire.blast(DEFAULT_RING + 50_000, queue=0)
    wire.blast(DEFAULT_RING + 20_000, queue=1)
    arrived = wire.arrived()
    recorder.send_signal(signal.SIGCONT)
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    for row in result.report["interfaces"][0]["queues"]:
        # The veth's own ring may lose some of the 50 000 and 20 000 that are too many.
        assert row["seen"] > row["written"] == DEFAULT_RING
        assert row["rx_dropped"] == row["fill_ring_empty"] == row["seen"] - DEFAULT_RING


def test_the_packets_of_a_pcapng_file_tell_how_many_were_lost_in_all(lab, record):
    recorder = record("--json", "--ring-size", "1024", "--umem-size", "2MiB")
    wire = Wire(lab)
    stand_still(recorder)
    wire.blast(5000)
    arrived = wire.arrived()
    recorder.send_signal(signal.SIGCONT)
    # The worker reads the kernel's counters every 10 ms.
    time.sleep(0.2)
    wire.send([numbered_frame(60, 1)])
    wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["rx_dropped"] == arrived - 1024 > 0
    told = [b.options.get("epb_dropcount", 0) for b in read_blocks(result.files[0]) if b.type == 6]
    assert sum(told) == total["rx_dropped"]


def test_a_recorder_that_is_stopped_and_continued_all_the_time_loses_count_of_nothing(lab, record):
    recorder = record("--json", "--ring-size", "4096", "--umem-size", "8MiB")
    wire = Wire(lab)
    for _ in range(8):
        stand_still(recorder)
        wire.blast(10_000)
        recorder.send_signal(signal.SIGCONT)
        wire.blast(10_000)
    arrived = wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    assert total["rx_dropped"] > 0


# --- tiny rings


@pytest.mark.parametrize("ring_size", [64, 1])
def test_tiny_rings_lose_packets_and_count_every_one(lab, record, ring_size):
    memory = max(2048 * ring_size, 4096)
    recorder = record("--json", "--ring-size", str(ring_size), "--umem-size", str(memory))
    wire = Wire(lab)
    wire.blast(80_000)
    arrived = wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    assert total["rx_dropped"] > 0
    # Every one of them found the fill ring empty: adding that would count them twice.
    assert total["fill_ring_empty"] == total["rx_dropped"]
    # No more frames circulate than either ring has room for.
    assert total["rx_ring_full"] == 0
    packets = contents(result)
    numbers = [frame_number(data) for data in packets]
    assert numbers == sorted(set(numbers))
    assert all(d == blasted_frame(60, n) for d, n in zip(packets, numbers, strict=True))


def test_a_tiny_ring_under_a_generic_program_counts_every_packet_too(lab, record):
    recorder = record("--json", "--attach", "generic", "--ring-size", "4", "--umem-size", "8KiB")
    wire = Wire(lab)
    wire.send(numbered_frame(60, number) for number in range(50_000))
    arrived = wire.arrived()
    total = check_books(recorder.stop())
    assert total["attach_mode"] == "generic"
    assert total["seen"] == arrived
    assert total["rx_dropped"] > 0


# --- oversized packets


def test_packets_of_several_frames_are_counted_as_packets(make_lab, record):
    lab = make_lab(mtu=9000)
    recorder = record("--json", "--frame-size", "2048", lab=lab)
    sent = [numbered_frame(9000 if number % 3 else 60, number) for number in range(3000)]
    wire = Wire(lab)
    wire.send(sent)
    assert wire.arrived() == 3000
    result = recorder.stop()
    assert check_books(result)["written"] == 3000
    assert contents(result) == sent


def test_a_packet_of_more_frames_than_there_are_is_lost_whole_and_the_next_is_intact(
    make_lab, record
):
    lab = make_lab(mtu=9000)
    # 9000 bytes want six frames of 2048 less the kernel's headroom; there are four.
    recorder = record("--json", "--ring-size", "4", "--umem-size", "8KiB", lab=lab)
    small = [numbered_frame(60 + number, number) for number in range(100)]
    with Sender(lab) as sender:
        for frame in small:
            sender.send([numbered_frame(9000, 7)])
            sender.send([frame])
            time.sleep(0.002)
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == 200
    assert total["rx_dropped"] == 100
    # The fill ring was short and never empty: it does not count packets.
    assert total["fill_ring_empty"] == 0
    assert contents(result) == small


def test_several_frames_a_packet_on_tiny_rings_are_still_exact(make_lab, record):
    lab = make_lab(mtu=9000)
    recorder = record("--json", "--ring-size", "16", "--umem-size", "32KiB", lab=lab)
    sent = {number: numbered_frame((60, 1792, 1793, 9000)[number % 4], number)
            for number in range(20_000)}  # fmt: skip
    wire = Wire(lab)
    wire.send(sent.values())
    arrived = wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    assert total["rx_dropped"] > 0
    assert all(data == sent[frame_number(data)] for data in contents(result))


def test_without_multi_buffer_a_packet_longer_than_a_frame_is_lost_and_counted(make_lab, record):
    lab = make_lab(mtu=3000)
    # 6.5 has no XDP_USE_SG: the plain program, and sockets of one frame a packet.
    recorder = record("--json", lab=lab, env=older_kernel("6.5.0"))
    assert "one frame a packet" in recorder.stderr
    sent = [numbered_frame((60, 1792, 1793, 3000)[number % 4], number) for number in range(2000)]
    wire = Wire(lab)
    wire.send(sent)
    assert wire.arrived() == 2000
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == 2000
    assert total["rx_dropped"] == 1000
    assert total["fill_ring_empty"] == 0
    assert contents(result) == [frame for frame in sent if len(frame) <= 1792]


# --- a full disk


def fill_the_disk(lab, recorder, count=20_000):
    """Let packets of more bytes than the disk has wait in the ring, then have them recorded.

    Returns how many the file lacks before its last.
    """
    wire = Wire(lab)
    stand_still(recorder)
    wire.blast(count, 1514)
    arrived = wire.arrived()
    recorder.send_signal(signal.SIGCONT)
    result = recorder.wait()
    total = check_books(result)
    assert result.returncode == 1
    assert total["seen"] == total["received"] == arrived
    assert total["write_dropped"] > 0
    assert total["written"] > 0
    problems = [line for line in result.stderr.splitlines() if "No space left" in line]
    assert len(problems) == 1, result.stderr
    assert problems[0].startswith("xdpcap: rx0: writing ")
    numbers = [frame_number(data) for data in contents(result)]
    assert len(numbers) == total["written"]
    return missing(numbers, wire.sent - arrived)


@pytest.mark.parametrize("format", ["pcapng", "pcap"])
def test_a_full_memory_file_system_keeps_whole_records_and_counts_the_rest(
    lab, record, tmp_path, format
):
    with small_tmpfs(tmp_path / "small", "size=6m") as directory:
        assert fill_the_disk(lab, record("--json", "--format", format, directory=directory)) == 0


def test_a_full_disk_written_around_the_page_cache_counts_just_as_well(lab, record, tmp_path):
    with small_ext4(tmp_path / "small", "16M") as directory:
        assert fill_the_disk(lab, record("--json", directory=directory)) == 0


def test_a_disk_that_fills_up_while_files_rotate_balances_too(lab, record, tmp_path):
    with small_ext4(tmp_path / "small", "16M") as directory:
        fill_the_disk(lab, record("--json", "--rotate-size", "1MiB", directory=directory))


# --- limits and ticks


def test_what_comes_after_the_last_packet_wanted_is_counted_beyond_the_limit(lab, record):
    recorder = record("--json", "--count", "1000")
    wire = Wire(lab)
    stand_still(recorder)
    wire.blast(20_000)
    arrived = wire.arrived()
    recorder.send_signal(signal.SIGCONT)
    result = recorder.wait()
    total = check_books(result)
    assert result.returncode == 0
    assert (total["seen"], total["written"], total["beyond_limit"]) == (
        arrived,
        1000,
        arrived - 1000,
    )


TICK = re.compile(r"(\d+\.\d)s rx0: ([\d ]+) packets, .*, ([\d ]+) lost")


def test_no_tick_shows_less_than_the_one_before_or_less_than_nothing(lab, record):
    recorder = record(
        "--json", "--stats-interval", "100ms", "--ring-size", "64", "--umem-size", "128KiB"
    )
    wire = Wire(lab)
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        wire.blast(2000)
        time.sleep(0.01)
    arrived = wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    assert total["seen"] == arrived
    lines = [line for line in result.stderr.splitlines() if re.match(r"\d+\.\ds ", line)]
    assert len(lines) >= 5
    ticks = [TICK.fullmatch(line) for line in lines]
    assert all(ticks), lines
    for group, final in ((2, total["received"]), (3, total["rx_dropped"])):
        counts = [int(tick[group].replace(" ", "")) for tick in ticks]
        assert counts == sorted(counts)
        assert 0 < counts[-1] <= final
