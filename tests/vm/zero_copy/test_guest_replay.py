"""`xdpcap replay` out of a guest's NIC: what is granted, and that all of it arrives."""

from __future__ import annotations

import pytest
from capture_files import contents
from ledger_checks import check_books
from replayer import pcap_file
from test_guest_record import check_in_order, received

from xdpcap.bench.lab.frames import numbered_frame

SMALL = ("--umem-size", "4MiB")


@pytest.fixture
def ends(record, replay):
    """The two commands, for the two ends of the wire."""
    return record, replay


@pytest.mark.parametrize("size", [60, 1514])
def test_what_is_replayed_arrives_whole_and_in_order(ends, expected, tmp_path, size, tell):
    record, replay = ends
    sent = [numbered_frame(size, number) for number in range(300)]
    file = pcap_file(tmp_path / "in.pcap", sent)
    recorder = record("--json")
    result = replay(file, "--pps", "1500", *SMALL).wait(90.0)
    assert result.returncode == 0, result.stderr
    report = result.report
    recorder.wait_for(lambda: received(recorder) >= len(sent), 30.0)
    recorded = recorder.stop(timeout_s=30.0)
    check_in_order(recorded, sent)
    check_books(recorded)
    assert report["sent"] == len(sent)
    assert report["zero_copy"] == expected.zero_copy, result.stderr
    assert report["tx_errors"]["tx_invalid_descs"] == 0
    tell(replay="zero-copy" if report["zero_copy"] else "copy")


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_verify_finds_nothing_missing_extra_or_changed(lab, replay, tmp_path):
    sent = [numbered_frame(60 + 7 * (number % 200), number) for number in range(300)]
    file = pcap_file(tmp_path / "in.pcap", sent)
    result = replay(file, "--pps", "1000", "--verify", f"{lab.rx_ns}:rx0", *SMALL).wait(120.0)
    assert result.returncode == 0, result.stderr
    verified = result.report["verify"]
    assert (verified["sent"], verified["arrived"]) == (300, 300)


def test_require_is_granted_or_fails_in_one_line_with_nothing_sent(lab, replay, expected, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", [numbered_frame(60, number) for number in range(50)])
    result = replay(file, "--zero-copy", "require", *SMALL).wait(90.0)
    if expected.zero_copy:
        assert result.returncode == 0 and result.report["zero_copy"]
        return
    assert result.returncode in (1, 2)
    assert result.stderr.splitlines()[-1].startswith("xdpcap: ")
    assert "Traceback" not in result.stderr


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_off_copies_and_arrives_as_well(ends, tmp_path):
    record, replay = ends
    sent = [numbered_frame(200, number) for number in range(200)]
    file = pcap_file(tmp_path / "in.pcap", sent)
    recorder = record("--json")
    result = replay(file, "--pps", "1000", "--zero-copy", "off", *SMALL).wait(90.0)
    assert result.returncode == 0 and not result.report["zero_copy"]
    recorder.wait_for(lambda: received(recorder) >= len(sent), 30.0)
    recorded = recorder.stop(timeout_s=30.0)
    assert sorted(contents(recorded.files)) == sorted(sent)
