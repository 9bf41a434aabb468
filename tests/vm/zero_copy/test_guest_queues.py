"""Several queues: each bound, each with its own file; and those that virtio_net adds by itself."""

from __future__ import annotations

import struct

import pytest
from capture_files import contents, of_queue
from ledger_checks import check_books
from leftovers import attached
from nic_pair import send
from replayer import pcap_file
from test_guest_record import check_in_order, received, record_all

from xdpcap.bench.lab.frames import TX_IPV4, numbered_frame
from xdpcap.packets.build import checksum

FLOWS = 64


def flow_frame(number: int) -> bytes:
    """A numbered frame of one of 64 flows by its source address, which every NIC's RSS looks at."""
    frame = bytearray(numbered_frame(60, number))
    source = bytes(map(int, TX_IPV4.split(".")))[:3] + bytes([10 + number % FLOWS])
    frame[26:30] = source
    frame[34:36] = struct.pack("!H", 49152 + number % FLOWS)
    frame[24:26] = bytes(2)
    frame[24:26] = struct.pack("!H", checksum(bytes(frame[14:34])))
    frame[40:42] = bytes(2)  # UDP: none was computed
    return bytes(frame)


def of_flow(frame: bytes) -> int:
    return frame[29]


@pytest.mark.nics("igb", "virtio-mq")
def test_every_queue_is_bound_and_packets_are_in_the_file_of_the_queue_that_they_came_on(
    lab, record, expected
):
    sent = [flow_frame(number) for number in range(640)]
    before = lab.statistics()
    recorder = record("--json")
    assert f"{lab.queues} of {lab.queues}" in recorder.stderr
    result = record_all(lab, recorder, sent)
    check_in_order(result, sent)
    check_books(result)
    rows = result.report["interfaces"][0]["queues"]
    assert [row["queue"] for row in rows] == list(range(lab.queues))
    assert all(row["zero_copy"] == expected.zero_copy for row in rows)
    assert sum(row["written"] > 0 for row in rows) > 1
    # The driver's own count of each queue, which knows nothing of files.
    after = lab.statistics()
    for row in rows:
        name = COUNTERS[lab.driver].format(row["queue"])
        if name in after and after[name] >= before.get(name, 0):
            assert row["written"] == after[name] - before.get(name, 0), name
    # A flow stays on its queue.
    for flow in range(10, 10 + FLOWS):
        files = [of_queue(result, row["queue"]) for row in rows]
        assert sum(flow in map(of_flow, contents(paths)) for paths in files) == 1


# ethtool -S: igb counts from its last reset on, at attach and bind.
COUNTERS = {"virtio_net": "rx{}_xdp_packets", "igb": "rx_queue_{}_packets"}


@pytest.mark.nics("virtio-mq")
def test_a_queue_above_those_that_are_set_up_is_never_bound(lab, record):
    """Linux 7.2 would take a zero-copy socket there, and stumble when it is closed."""
    with lab.channels(1):
        result = record("--queues", "1", ready=False).wait(60.0)
        assert result.returncode == 2
        assert "rx0 has no RX queue 1" in result.stderr
        assert "`ethtool -L rx0 combined 2` makes more" in result.stderr
        assert attached(lab) is None
        recorder = record("--json")
        assert "1 of 1" in recorder.stderr
        assert recorder.stop(timeout_s=30.0).returncode == 0


@pytest.mark.nics("virtio-mq")
def test_a_replay_never_binds_a_queue_above_those_that_are_set_up(lab, replay, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", [numbered_frame(60, 1)])
    result = replay(file, "--queues", "3").wait(60.0)  # of 4, and 2 are set up
    assert result.returncode == 2
    assert "tx0 has no RX queue 3" in result.stderr


@pytest.mark.nics("virtio-mq")
def test_packets_on_queues_that_the_driver_adds_are_counted_as_passed(lab, record):
    sent = [flow_frame(number) for number in range(640)]
    with lab.channels(1):
        recorder = record("--json")
        assert "virtio_net receives on more queues than 1" in recorder.stderr
        assert "ethtool -L rx0 combined 4" in recorder.stderr
        send(lab, sent)
        recorder.wait_for(lambda: received(recorder) > 0, 30.0)
        result = recorder.stop(timeout_s=30.0)
        interface = result.report["interfaces"][0]
        total = check_books(result)
        assert total["seen"] == total["written"] + interface["uncovered_passed"] == len(sent)
    with lab.channels(4):
        recorder = record("--json")
        assert "virtio_net receives on more" not in recorder.stderr
        result = record_all(lab, recorder, sent)
        check_in_order(result, sent)
        assert result.report["interfaces"][0]["uncovered_passed"] == 0
