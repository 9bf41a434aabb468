"""When a packet is on disk: at once at the end, within the flush interval before."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from capture_files import capinfos, contents, flushed, parts, run
from ledger_checks import check_books
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import mixed_frames, numbered_frame
from xdpcap.bench.lab.traffic import Sender, send_frames

# A directory beside the package, should the one for temporary files be in memory.
ROOT = Path(__file__).resolve().parents[2]
# Between a packet and its being readable at most, for a flush interval of 100 ms.
SOON_S = 5.0
PROMPT = ("--flush-interval", "100ms")


def file_system(path: Path) -> str:
    return run("stat", "-f", "-c", "%T", path).strip()


@pytest.fixture(params=["memory", "disk"])
def directory(request, tmp_path):
    """A directory in memory, written at once, and one on disk, written around the page cache."""
    if request.param == "memory":
        place = Path(tempfile.mkdtemp(prefix="xdpcap-test-", dir="/dev/shm"))
        request.addfinalizer(lambda: shutil.rmtree(place))
        assert file_system(place) == "tmpfs"
    else:
        place = tmp_path
        if file_system(place) == "tmpfs":
            place = Path(tempfile.mkdtemp(prefix="test-", dir=ROOT / "build"))
            request.addfinalizer(lambda: shutil.rmtree(place))
    return place / "captures"


def writes_around_the_page_cache(recorder) -> bool:
    """Whether a file is open with O_DIRECT."""
    flags = []
    for info in Path(f"/proc/{recorder.process.pid}/fdinfo").iterdir():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        flags.append(int(lines["flags"], 8))
    return any(flag & os.O_DIRECT and flag & os.O_ACCMODE == os.O_WRONLY for flag in flags)


def wait_for_content(recorder, part, expected, timeout_s=SOON_S):
    """Until the file being written has exactly these packets, whole."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while (found := flushed(part)) != expected:
        assert time.monotonic() < deadline, f"{len(found)} of {len(expected)}; {recorder.stderr}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "file_format"), [(signal.SIGINT, "pcapng"), (signal.SIGTERM, "pcap")]
)
def test_one_packet_and_a_signal_and_it_is_on_disk(lab, directory, record, number, file_format):
    recorder = record("--json", "--format", file_format, directory=directory)
    send_frames(lab, [numbered_frame(123, 5)])
    result = recorder.stop(number)
    assert result.returncode == 0
    assert check_books(result)["written"] == 1
    assert contents(result.files) == [numbered_frame(123, 5)]
    assert capinfos(result.files[0])["Number of packets"] == "1"


def test_how_the_file_is_written_depends_on_where_it_is(lab, directory, record):
    recorder = record(directory=directory)
    on_disk = file_system(directory) != "tmpfs"
    assert writes_around_the_page_cache(recorder) == on_disk


@pytest.mark.parametrize("file_format", ["pcapng", "pcap"])
def test_a_file_being_written_can_be_read_up_to_its_last_flush_again_and_again(
    lab, directory, record, file_format
):
    recorder = record("--json", *PROMPT, "--format", file_format, directory=directory)
    (part,) = parts(recorder)
    sent = []
    # One packet, some, and then enough for blocks of their own in between.
    for step, count in enumerate((1, 1, 30, 2000, 1, 1500)):
        more = list(mixed_frames(count, seed=step))
        send_frames(lab, more)
        sent += more
        wait_for_content(recorder, part, sent)
        # Not one byte more: the file is as long as what is in it.
        run("tcpdump", "-r", part, "-n", "-q", "-w", "/dev/null")
    assert part.stat().st_size > 2 << 20  # two blocks and more
    result = recorder.stop()
    assert check_books(result)["written"] == len(sent)
    assert contents(result.files) == sent


def test_a_trickle_of_packets_is_flushed_too_although_it_is_never_quiet(lab, directory, record):
    """The interval counts from the first packet that is not in the file, not from the last."""
    recorder = record("--json", *PROMPT, directory=directory)
    (part,) = parts(recorder)
    with Sender(lab) as sender:
        begun = time.monotonic()
        number = 0
        while not flushed(part):
            sender.send([numbered_frame(60, number)])
            number += 1
            time.sleep(0.01)
            assert time.monotonic() - begun < SOON_S
    assert number > 3
    assert len(contents(recorder.stop().files)) == number


def test_without_a_word_of_the_interval_a_packet_is_readable_within_seconds(lab, record):
    recorder = record("--json")
    (part,) = parts(recorder)
    send_frames(lab, [numbered_frame(60, 1)])
    sent = time.monotonic()
    wait_for_content(recorder, part, [numbered_frame(60, 1)])
    # The default is one second; the rest is the machine's.
    assert time.monotonic() - sent < 3.0


def test_what_was_flushed_is_readable_after_the_recorder_was_killed(lab, directory, record):
    recorder = record(*PROMPT, directory=directory)
    (part,) = parts(recorder)
    sent = list(mixed_frames(3000))
    send_frames(lab, sent)
    wait_for_content(recorder, part, sent)
    # In a block that is not full, and not flushed when the end comes.
    recorder.kill()
    found = flushed(part)
    assert found == sent
    assert int(capinfos(part)["Number of packets"]) == len(sent)
    again = record("--json", directory=directory)
    assert part.name in again.stderr
    send_frames(lab, sent[:3])
    result = again.stop()
    assert flushed(part) == sent
    assert contents(path for path in result.files if path != part) == sent[:3]
