"""What stands beside the packets in a file, as other people's tools read it, and its times."""

from __future__ import annotations

import itertools
import platform
import re
import time
from dataclasses import dataclass
from datetime import datetime

import pytest
from capture_files import capinfos, of_queue, packets, run, statistics, tshark_fields
from ledger_checks import Wire, check_books
from recorder import Recorder, Result
from toeplitz import KEY

from xdpcap import __version__
from xdpcap.bench.lab import Lab
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.host import kernel
from xdpcap.savefile.reader import read_blocks

SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
QUEUES = 2
COUNT = 400


@dataclass
class Recorded:
    """A recording of two queues, and the wall clock on both sides of each queue's packets."""

    result: Result
    sent_ns: list[tuple[int, int]]


def record_two_queues(directory, *arguments: str) -> Recorded:
    """400 packets to each queue in turn, and 15000 as fast as they go to the second.

    tshark takes no file apart that has more than a million items.
    """
    directory.mkdir()
    with Lab(queues=QUEUES) as lab:
        recorder = Recorder(lab, directory, ["--json", *arguments])
        wire = Wire(lab)
        sent_ns = []
        for queue in range(QUEUES):
            before_ns = time.time_ns()
            wire.send((numbered_frame(60 + n % 50, n) for n in range(COUNT)), queue)
            if queue == 1:
                wire.blast(15_000, queue=queue)
            arrived = wire.arrived()
            sent_ns.append((before_ns, time.time_ns()))
        result = recorder.stop()
    assert check_books(result)["written"] == arrived
    return Recorded(result, sent_ns)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record_two_queues(tmp_path_factory.mktemp("pcapng") / "captures")


@pytest.fixture(scope="module")
def recorded_pcap(tmp_path_factory):
    return record_two_queues(tmp_path_factory.mktemp("pcap") / "captures", "--format", "pcap")


# --- the blocks at the beginning and at the end


def test_the_section_header_names_hardware_system_and_application(recorded):
    for path in recorded.result.files:
        section, *others = read_blocks(path)
        assert section.type == SECTION_HEADER
        assert SECTION_HEADER not in {block.type for block in others}
        assert platform.machine() in section.options["shb_hardware"]
        assert platform.release() in section.options["shb_os"]
        assert section.options["shb_userappl"] == f"xdpcap {__version__}"


def test_the_interface_is_described_once_with_all_that_is_known(recorded):
    for path in recorded.result.files:
        blocks = list(read_blocks(path))
        (interface,) = [block for block in blocks if block.type == INTERFACE_DESCRIPTION]
        assert interface is blocks[1]
        assert interface.fields["linktype"] == 1
        assert interface.fields["snaplen"] == 0
        options = interface.options
        assert (options["if_name"], options["if_description"]) == ("rx0", "veth")
        assert options["if_MACaddr"] == bytes.fromhex(Lab.rx_mac.replace(":", ""))
        assert options["if_speed"] == 10_000_000_000
        assert options["if_tsresol"] == 9
        assert platform.release() in options["if_os"]
        time_comment, hash_comment, tag_comment = options["opt_comment"]
        clock = "CLOCK_TAI" if kernel.has_tai() else "CLOCK_MONOTONIC"
        assert clock in time_comment and "UTC" in time_comment
        assert "Toeplitz" in hash_comment and KEY.hex() in hash_comment
        assert tag_comment.startswith("VLAN: ")


def test_the_statistics_at_the_end_are_those_of_the_report(recorded):
    (interface,) = recorded.result.report["interfaces"]
    for row in interface["queues"]:
        (path,) = of_queue(recorded.result, row["queue"])
        options = statistics(path)
        assert options["isb_ifrecv"] == row["seen"]
        assert options["isb_ifdrop"] == 0
        assert options["isb_filteraccept"] == row["redirected"]
        assert options["isb_osdrop"] == row["rx_dropped"] + row["rx_ring_full"]
        assert options["isb_usrdeliv"] == row["received"]
        times = [packet.ts_ns for packet in packets([path])]
        assert options["isb_starttime"] < times[0] and times[-1] < options["isb_endtime"]
        ended = datetime.fromisoformat(recorded.result.report["ended"]).timestamp()
        assert options["isb_endtime"] <= ended * 1e9


def test_capinfos_and_tshark_read_the_same(recorded):
    for path in recorded.result.files:
        told = run("capinfos", path)
        for line in (
            f"Capture application: xdpcap {re.escape(__version__)}",
            "File timestamp precision:  nanoseconds \\(9\\)",
            "Strict time order:   True",
            "Number of interfaces in file: 1",
            "Name = rx0",
            "Speed = 10000000000",
            "Number of stat entries = 1",
        ):
            assert re.search(line, told), f"{line!r} is not in\n{told}"
        assert capinfos(path)["Number of packets"] == str(len(packets([path])))
        # tshark reads the file as blocks, and takes the statistics apart.
        fields = ["received", "accepted_by_filter", "dropped_by_os", "delivered_to_user"]
        names = [f"pcapng.options.option.data.interface.{field}" for field in fields]
        mime = ["-X", "read_format:MIME Files Format"]
        wanted = [word for name in names for word in ("-e", name)]
        row = run("tshark", *mime, "-r", path, "-T", "fields", *wanted).split()
        options = statistics(path)
        keys = ["isb_ifrecv", "isb_filteraccept", "isb_osdrop", "isb_usrdeliv"]
        assert [int(value) for value in row] == [options[key] for key in keys]


# --- each packet's options


def test_each_packet_is_inbound_and_says_its_queue(recorded):
    for queue in range(QUEUES):
        found = packets(of_queue(recorded.result, queue))
        assert {p.options["epb_flags"] for p in found} == {0b01}
        assert {p.options["epb_queue"] for p in found} == {queue}
        assert not any("epb_dropcount" in p.options for p in found)


def test_packet_ids_are_consecutive_on_a_queue_and_unique_over_all(recorded):
    ids = [
        [p.options["epb_packetid"] for p in packets(of_queue(recorded.result, queue))]
        for queue in range(QUEUES)
    ]
    for queue, of_one in enumerate(ids):
        assert of_one == list(range(of_one[0], of_one[0] + len(of_one)))
        assert of_one[0] == queue << 48
    everything = list(itertools.chain(*ids))
    assert len(set(everything)) == len(everything)


def test_tshark_reads_queue_direction_and_id_of_each_packet(recorded):
    (path,) = of_queue(recorded.result, 1)
    rows = tshark_fields(
        path, "frame.packet_flags_direction", "frame.interface_queue", "frame.packet_id"
    )
    expected = [[1, 1, packet.options["epb_packetid"]] for packet in packets([path])]
    assert [[int(value, 0) for value in row] for row in rows] == expected


# --- times


@pytest.mark.parametrize("name", ["recorded", "recorded_pcap"])
def test_each_packet_has_a_time_of_its_own_within_the_time_of_sending(name, request):
    recorded = request.getfixturevalue(name)
    for queue, (before_ns, after_ns) in enumerate(recorded.sent_ns):
        times = [packet.ts_ns for packet in packets(of_queue(recorded.result, queue))]
        assert before_ns < times[0] and times[-1] < after_ns
        # One a packet, never one a batch: no two are equal, and they are in order.
        assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_times_tell_when_each_packet_came_and_not_when_it_was_read(recorded):
    """In a batch of 256 packets the times are as far apart as the packets were."""
    times = [packet.ts_ns for packet in packets(of_queue(recorded.result, 1))][COUNT:]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    # At two or three million a second half of them are a few hundred ns apart, not 1 or 0.
    assert 50 < gaps[len(gaps) // 2] < 20_000
    # An invented time grows by a constant.
    assert len(set(gaps)) > 100


def test_a_pcap_file_has_the_nanosecond_magic_and_tcpdump_reads_its_times(recorded_pcap):
    (path,) = of_queue(recorded_pcap.result, 0)
    assert path.read_bytes()[:4] == bytes.fromhex("4d3cb2a1")
    assert "nanoseconds (9)" in run("capinfos", path)
    lines = run("tcpdump", "-r", path, "-n", "-tt", "--nano", "-q").splitlines()
    seconds_ns = [divmod(packet.ts_ns, 1_000_000_000) for packet in packets([path])]
    assert [line.split()[0] for line in lines] == [f"{s}.{ns:09}" for s, ns in seconds_ns]


def test_times_follow_the_wall_clock_over_several_measurements_of_its_offset(lab, record):
    """The offset is measured every second; packets before and after are in order all the same."""
    recorder = record("--json")
    wire = Wire(lab)
    wire.blast(30_000, pps=12_000)  # 2.5 s
    arrived = wire.arrived()
    times = [packet.ts_ns for packet in packets(recorder.stop().files)]
    assert len(times) == arrived
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
