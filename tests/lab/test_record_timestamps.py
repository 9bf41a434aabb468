"""Whose clock stamps the packets: a veth has none; a NIC that has one is made up for its driver.

The made-up driver (tests/programs/driver_with_clock.h) stamps each fourth packet by the clock
since the machine's start, an hour too early; all else is the real command.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from capture_files import packets, statistics, tshark_fields
from compiled_programs import HEADERS, compiled
from file_systems import directory_of_nobody
from kernel_requirements import DRIVER_TIMES
from ledger_checks import check_books
from patched_command import nic_with_clock

from xdpcap.bench.lab.frames import frame_number, numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.savefile.reader import read_blocks

HOUR_NS = 3600 * 10**9
COUNT = 40
FRAMES = [numbered_frame(60, number) for number in range(COUNT)]
# struct hwtstamp_config: no flags, transmitted packets stamped, of received ones none or all.
OFF, ON = struct.pack("=iii", 0, 1, 0), struct.pack("=iii", 0, 1, 1)
FAKE = Path(__file__).parents[1] / "programs" / "driver_with_clock.h"


@dataclass
class Nic:
    """A NIC with a clock: what it is set to stamp, and the environment that has it."""

    state: Path
    env: dict[str, str]

    @property
    def stamping(self) -> bytes:
        return self.state.read_bytes()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The recording programs with the made-up driver in them."""
    directory = tmp_path_factory.mktemp("driver")
    asking = ("-DXDPCAP_FRAGS", "-DXDPCAP_METADATA", "-include", str(FAKE))
    for name, flags in (("record", ()), ("mirror", ("-DXDPCAP_MIRROR",))):
        built = compiled(HEADERS / "record.bpf.c", directory, *asking, *flags)
        built.rename(directory / f"{name}.o")
    return directory


@pytest.fixture
def nic(tmp_path, programs):
    state = tmp_path / "stamping"
    state.write_bytes(OFF)
    return Nic(state, {**os.environ, **nic_with_clock(state, programs)})


def send_between(lab, recorder) -> tuple[int, int]:
    """Send the frames; the wall clock before the first and after the last was taken."""
    before_ns, known = time.time_ns(), lab.statistics()["rx_packets"]
    send_frames(lab, FRAMES)
    recorder.wait_for(lambda: lab.statistics()["rx_packets"] >= known + COUNT)
    return before_ns, time.time_ns()


def description(result):
    return list(read_blocks(result.files[0]))[1].options


# --- a veth


@DRIVER_TIMES
def test_on_a_veth_the_host_stamps_and_the_start_up_report_says_so(lab, record):
    recorder = record("--json")
    before_ns, after_ns = send_between(lab, recorder)
    result = recorder.stop()
    assert check_books(result)["written"] == COUNT
    assert all(before_ns <= p.ts_ns <= after_ns for p in packets(result.files))
    assert "not the NIC's time: rx0 has no PTP hardware clock" in result.stderr
    (interface,) = result.report["interfaces"]
    assert interface["time_stamp_type"] == "host" and result.total["device_stamped"] == 0
    assert "if_tsoffset" not in description(result)


@DRIVER_TIMES
def test_a_nic_without_a_clock_is_refused_in_one_line(lab, record):
    result = record("-j", "adapter_unsynced", ready=False).wait()
    assert result.returncode == 2 and not result.files
    (line,) = result.stderr.splitlines()
    assert line == "xdpcap: -j adapter_unsynced: rx0 has no PTP hardware clock; use -j host"


# --- a NIC


@DRIVER_TIMES
@pytest.mark.parametrize("how", ["--format=pcapng", "--format=pcap", "--mirror"])
def test_packets_have_the_nics_time_in_utc_and_the_others_the_hosts(lab, record, nic, how):
    recorder = record("-j", "adapter", "--json", how, env=nic.env)
    assert nic.stamping == ON
    before_ns, after_ns = send_between(lab, recorder)
    result = recorder.stop()
    assert nic.stamping == OFF
    assert check_books(result)["device_stamped"] == COUNT // 4
    found = packets(result.files)
    assert [p.data for p in found] == FRAMES
    for packet in found:
        early_ns = HOUR_NS if frame_number(packet.data) % 4 == 0 else 0
        assert before_ns <= packet.ts_ns + early_ns <= after_ns
    assert "/dev/ptp7 of the NIC, to UTC" in result.stderr
    if how != "--format=pcap":
        options = description(result)
        assert "if_tsoffset" not in options
        assert any("by its clock /dev/ptp7, whose offset" in c for c in options["opt_comment"])


@DRIVER_TIMES
def test_as_it_is_the_nics_clock_is_in_the_file_and_readers_come_near_utc(lab, record, nic):
    recorder = record("-j", "adapter_unsynced", "--json", env=nic.env)
    begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    before_ns, after_ns = send_between(lab, recorder)
    ended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    result = recorder.stop()
    options = description(result)
    tsoffset_s = options["if_tsoffset"]
    booted_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(tsoffset_s * 10**9 - booted_ns) <= 500_001_000
    (told,) = [c for c in options["opt_comment"] if "/dev/ptp7 as it is" in c]
    assert f"(if_tsoffset: {tsoffset_s:+} s)" in told and "s behind UTC" in told
    found = packets(result.files)
    assert len(found) == COUNT
    for packet in found:
        early_ns = HOUR_NS if frame_number(packet.data) % 4 == 0 else 0
        # The reader has added if_tsoffset: what is in the file is the NIC's clock, of all packets.
        assert begun_ns <= packet.ts_ns + early_ns - tsoffset_s * 10**9 <= ended_ns
        assert abs(packet.ts_ns + early_ns - before_ns) < after_ns - before_ns + 10**9
    # Other people's readers add it, too; the times of the statistics are in the same clock.
    shown = [float(row[0]) for row in tshark_fields(result.files[0], "frame.time_epoch")]
    assert all(abs(s - p.ts_ns / 1e9) < 1e-5 for s, p in zip(shown, found, strict=True))
    at_end = statistics(result.files[0])
    assert at_end["isb_starttime"] - tsoffset_s * 10**9 < begun_ns
    assert ended_ns <= at_end["isb_endtime"] - tsoffset_s * 10**9 < ended_ns + 60 * 10**9


@DRIVER_TIMES
def test_what_is_on_already_is_taken_without_being_asked_for_and_left_on(lab, record, nic):
    nic.state.write_bytes(ON)
    recorder = record("--json", env=nic.env)
    send_between(lab, recorder)
    result = recorder.stop()
    assert result.report["interfaces"][0]["time_stamp_type"] == "adapter"
    assert result.total["device_stamped"] == COUNT // 4
    assert nic.stamping == ON


@DRIVER_TIMES
def test_a_nic_that_was_made_again_is_set_again(lab, record, nic):
    recorder = record("-j", "adapter", "--json", "--wait-link", env=nic.env)
    lab.delete_link()
    recorder.wait_for(lambda: "rx0 was deleted; waiting" in recorder.stderr)
    nic.state.write_bytes(OFF)
    lab.make_link()
    recorder.wait_for(lambda: "rx0 is back after" in recorder.stderr)
    assert nic.stamping == ON
    send_between(lab, recorder)
    assert recorder.stop().total["device_stamped"] == COUNT // 4
    assert nic.stamping == OFF


@DRIVER_TIMES
def test_by_itself_a_recording_changes_nothing_and_says_why(lab, record, nic):
    result = record("--json", env=nic.env).stop()
    assert result.report["interfaces"][0]["time_stamp_type"] == "host"
    assert nic.stamping == OFF
    why = "receive time stamping is off in the NIC, -j adapter turns it on"
    assert f"not the NIC's time: {why}" in result.stderr


@DRIVER_TIMES
@pytest.mark.parametrize("end", ["kill", "user"])
def test_what_was_set_before_is_back_however_it_ends(lab, record, nic, tmp_path, end):
    options = {}
    if end == "user":
        options["directory"] = directory_of_nobody(tmp_path)
        arguments = ("--user", "nobody")
    else:
        arguments = ()
    recorder = record("-j", "adapter", "--json", *arguments, env=nic.env, **options)
    assert nic.stamping == ON
    if end == "kill":
        recorder.kill()
    else:
        send_between(lab, recorder)
        assert recorder.stop().total["device_stamped"] == COUNT // 4
    recorder.wait_for(lambda: nic.stamping == OFF)
