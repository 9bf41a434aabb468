"""Packet records: byte for byte by hand, and as tshark, capinfos, editcap and tcpdump read them."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest

from xdpcap.savefile import headers
from xdpcap.savefile.encode import RecordEncoder
from xdpcap.savefile.reader import read_packets

# 2026-11-21T09:30:00.123456789Z; its lower 32 bits are not those of the seconds.
TS_NS = 1795253400_123456789
QUEUE, INTERFACE = 3, 0
# Every length about the padding to 32 bits and the shortest headers, and the longest packet.
CAPLENS = [*range(71), 1514, 9018, 65535]
PACKETS = [random.Random(caplen).randbytes(caplen) for caplen in CAPLENS]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def enhanced_packet(
    number: int,
    data: bytes,
    origlen: int,
    drop_count: int = 0,
    *,
    hashed: bytes = b"",
    verdict: bytes = b"",
) -> bytes:
    """draft-ietf-opsawg-pcapng section 4.3, written out."""
    ts_ns = TS_NS + number
    body = struct.pack(
        "<IIIII", INTERFACE, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(data), origlen
    ) + padded(data)
    body += struct.pack("<HHI", 2, 4, 0b01)  # epb_flags: inbound
    body += struct.pack("<HHI", 6, 4, QUEUE)  # epb_queue
    body += struct.pack("<HHQ", 5, 8, QUEUE << 48 | number)  # epb_packetid
    if drop_count:
        body += struct.pack("<HHQ", 4, 8, drop_count)  # epb_dropcount
    if hashed:
        body += struct.pack("<HH", 3, len(hashed)) + padded(hashed)  # epb_hash
    if verdict:
        body += struct.pack("<HH", 7, len(verdict)) + padded(verdict)  # epb_verdict
    body += bytes(4)  # opt_endofopt
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", 6) + length + body + length


def pcap_record(number: int, data: bytes, origlen: int) -> bytes:
    """draft-ietf-opsawg-pcap section 5, nanosecond variant."""
    seconds, ns = divmod(TS_NS + number, 1_000_000_000)
    return struct.pack("<IIII", seconds, ns, len(data), origlen) + data


def encoder(file_format: str, **options) -> RecordEncoder:
    return RecordEncoder(file_format, interface_id=INTERFACE, queue=QUEUE, **options)


def run(*argv) -> bytes:
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(a) for a in argv], check=False, capture_output=True, timeout=60, env=env
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def fields(path: Path, *names: str) -> list[list[str]]:
    """tshark's values of the named fields, a row a packet."""
    wanted = [word for name in names for word in ("-e", name)]
    rows = run("tshark", "-r", path, "-n", "-T", "fields", *wanted)
    return [row.split("\t") for row in rows.decode().splitlines()]


# --- by hand


def test_a_pcapng_record_is_an_enhanced_packet_block_to_the_byte():
    encode = encoder("pcapng").encode
    for number, data in enumerate(PACKETS):
        assert encode(data, TS_NS + number) == enhanced_packet(number, data, len(data))


def test_a_pcap_record_is_seconds_nanoseconds_and_two_lengths():
    encode = encoder("pcap").encode
    for number, data in enumerate(PACKETS):
        assert encode(data, TS_NS + number) == pcap_record(number, data, len(data))


@pytest.mark.parametrize("snaplen", [1, 4, 60, 61, 96])
def test_a_longer_packet_is_cut_and_keeps_its_length_on_the_wire(snaplen):
    ng, old = encoder("pcapng", snaplen=snaplen), encoder("pcap", snaplen=snaplen)
    for number, data in enumerate(PACKETS):
        cut = data[:snaplen]
        ts_ns = TS_NS + number
        assert ng.encode(data, ts_ns) == enhanced_packet(number, cut, len(data))
        assert old.encode(data, ts_ns) == pcap_record(number, cut, len(data))


def test_a_packet_that_was_cut_on_its_way_keeps_the_length_that_is_told():
    assert encoder("pcapng").encode(b"12345", TS_NS, origlen=9000) == enhanced_packet(
        0, b"12345", 9000
    )


def test_a_loss_stands_in_the_record_after_it_and_in_no_other():
    ng = encoder("pcapng")
    blocks = [ng.encode(b"abc", TS_NS + n, drop_count=d) for n, d in enumerate((0, 7, 0, 2**40))]
    assert blocks == [
        enhanced_packet(0, b"abc", 3),
        enhanced_packet(1, b"abc", 3, 7),
        enhanced_packet(2, b"abc", 3),
        enhanced_packet(3, b"abc", 3, 2**40),
    ]


def test_a_hash_stands_behind_its_algorithm_with_the_highest_octet_first():
    ng = encoder("pcapng", hash_algorithm=5)
    hashed = bytes.fromhex("05 ec1d8797")
    for number, data in enumerate(PACKETS):
        block = ng.encode(data, TS_NS + number, hash=0xEC1D8797, drop_count=number % 2)
        assert block == enhanced_packet(number, data, len(data), number % 2, hashed=hashed)


def test_a_packet_without_a_hash_has_no_option_for_one():
    ng = encoder("pcapng", hash_algorithm=255)
    blocks = [ng.encode(b"abc", TS_NS + n, hash=h) for n, h in enumerate((1, None, 0))]
    assert blocks == [
        enhanced_packet(0, b"abc", 3, hashed=bytes.fromhex("ff 00000001")),
        enhanced_packet(1, b"abc", 3),
        enhanced_packet(2, b"abc", 3, hashed=bytes.fromhex("ff 00000000")),
    ]


@pytest.mark.parametrize("options", [{}, {"hash_algorithm": -1}])
def test_an_encoder_that_is_told_no_algorithm_writes_no_hash(options):
    assert encoder("pcapng", **options).encode(b"abc", TS_NS, hash=7) == enhanced_packet(
        0, b"abc", 3
    )


def test_pcap_has_no_place_for_a_hash():
    encode = encoder("pcap", hash_algorithm=5).encode
    assert encode(b"abc", TS_NS, hash=7) == pcap_record(0, b"abc", 3)


def test_a_verdict_is_that_of_xdp_in_the_files_byte_order_and_of_its_own_packet_alone():
    ng = encoder("pcapng", hash_algorithm=5)
    blocks = [
        ng.encode(b"abc", TS_NS, verdict=1),
        ng.encode(b"abc", TS_NS + 1),
        ng.encode(b"abcd", TS_NS + 2, verdict=0, hash=7, drop_count=3),
        ng.encode(b"", TS_NS + 3, verdict=2**32 - 1),
    ]
    assert blocks == [
        enhanced_packet(0, b"abc", 3, verdict=bytes.fromhex("02 0100000000000000")),
        enhanced_packet(1, b"abc", 3),
        enhanced_packet(2, b"abcd", 4, 3, hashed=b"\5\0\0\0\7", verdict=b"\2" + bytes(8)),
        enhanced_packet(3, b"", 0, verdict=bytes.fromhex("02 ffffffff00000000")),
    ]


def test_pcap_has_no_place_for_a_verdict():
    assert encoder("pcap").encode(b"abc", TS_NS, verdict=1) == pcap_record(0, b"abc", 3)


@pytest.mark.parametrize("snaplen", [0, 1, 11, 12, 13, 15, 16, 17, 60, 96])
@pytest.mark.parametrize("tag", [0x8100_0064, 0x88A8_F007, 0x8100_0000])
def test_a_tag_goes_back_behind_the_addresses_and_counts_in_both_lengths(tag, snaplen):
    ng, old = encoder("pcapng", snaplen=snaplen), encoder("pcap", snaplen=snaplen)
    long_enough = [data for data in PACKETS if len(data) >= 14]
    for number, data in enumerate(long_enough):
        whole = data[:12] + struct.pack("!I", tag) + data[12:]
        cut = whole[: snaplen or None]
        ts_ns = TS_NS + number
        assert ng.encode(data, ts_ns, tag=tag) == enhanced_packet(number, cut, len(whole))
        assert old.encode(data, ts_ns, tag=tag) == pcap_record(number, cut, len(whole))


def test_packet_ids_are_unique_over_the_interfaces_and_queues_of_a_file():
    """The same id on two interfaces would mean the same packet."""
    ids = []
    for interface in range(3):
        for queue in (0, 1, 64):
            encode = RecordEncoder("pcapng", interface_id=interface, queue=queue).encode
            # epb_packetid's value: behind the packet, epb_flags and epb_queue.
            ids += [struct.unpack_from("<Q", encode(b"abcd", TS_NS), 52)[0] for _ in range(3)]
    assert ids[:4] == [0, 1, 2, 1 << 48]
    assert len(set(ids)) == 27


def test_pcap_has_no_place_for_a_loss():
    assert encoder("pcap").encode(b"abc", TS_NS, drop_count=7) == pcap_record(0, b"abc", 3)


@pytest.mark.parametrize("ts_ns", [0, 1, 999_999_999, 10**9, 2**32 - 1, 2**32, 2**63])
def test_times_are_exact_to_the_nanosecond(ts_ns):
    high, low = struct.unpack_from("<II", encoder("pcapng").encode(b"", ts_ns), 12)
    assert high << 32 | low == ts_ns
    seconds, ns = struct.unpack_from("<II", encoder("pcap").encode(b"", ts_ns))
    assert (seconds, ns) == (ts_ns // 10**9 % 2**32, ts_ns % 10**9)


# --- as others read them


@pytest.fixture(scope="module")
def pcapng(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "all.pcapng"
    encode = encoder("pcapng").encode
    drops = [5 if number % 10 == 9 else 0 for number in range(len(PACKETS))]
    path.write_bytes(
        headers.section_header("Test CPU", "Linux", "xdpcap")
        + headers.interface_block(snaplen=0, name="eth0")
        + b"".join(
            encode(data, TS_NS + n, drop_count=drop)
            for n, (data, drop) in enumerate(zip(PACKETS, drops, strict=True))
        )
    )
    return path


@pytest.fixture(scope="module")
def pcap(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "all.pcap"
    encode = encoder("pcap").encode
    path.write_bytes(
        headers.pcap_header(0) + b"".join(encode(data, TS_NS + n) for n, data in enumerate(PACKETS))
    )
    return path


def test_our_reader_finds_what_was_encoded(pcapng, pcap):
    for path in (pcapng, pcap):
        packets = list(read_packets(path))
        assert [p.data for p in packets] == PACKETS
        assert [p.origlen for p in packets] == CAPLENS
        assert [p.ts_ns for p in packets] == [TS_NS + n for n in range(len(PACKETS))]


@pytest.mark.parametrize("name", ["pcapng", "pcap"])
def test_editcap_and_tcpdump_copy_every_record_byte_for_byte(name, request, tmp_path):
    """Both write what they read as nanosecond pcap, whose records are known."""
    path = request.getfixturevalue(name)
    expected = b"".join(pcap_record(n, data, len(data)) for n, data in enumerate(PACKETS))
    run("editcap", "-F", "nsecpcap", path, tmp_path / "by-editcap")
    assert (tmp_path / "by-editcap").read_bytes()[24:] == expected
    by_tcpdump = run("tcpdump", "-r", path, "--nano", "-s", "0", "-w", "-")
    assert by_tcpdump[24:] == expected


@pytest.mark.parametrize("name", ["pcapng", "pcap"])
def test_tshark_finds_lengths_and_times(name, request):
    rows = fields(request.getfixturevalue(name), "frame.cap_len", "frame.len", "frame.time_epoch")
    seconds, ns = divmod(TS_NS, 10**9)
    assert rows == [[f"{n}", f"{n}", f"{seconds}.{ns + i:09}"] for i, n in enumerate(CAPLENS)]


def test_tshark_finds_the_options_of_each_packet(pcapng):
    rows = fields(
        pcapng,
        "frame.packet_flags_direction",
        "frame.interface_queue",
        "frame.packet_id",
        "frame.drop_count",
        "frame.interface_id",
    )
    assert [[int(value or "0", 0) for value in row] for row in rows] == [
        [1, QUEUE, QUEUE << 48 | n, 5 if n % 10 == 9 else 0, 0] for n in range(len(PACKETS))
    ]


def test_tshark_finds_verdicts_and_our_reader_keeps_them(tmp_path):
    path = tmp_path / "verdicts.pcapng"
    encode = encoder("pcapng").encode
    actions = [0, 1, 2, 3, 4, None]
    path.write_bytes(
        headers.section_header("Test CPU", "Linux", "xdpcap")
        + headers.interface_block(snaplen=0, name="eth0")
        + b"".join(encode(b"abc", TS_NS + n, verdict=action) for n, action in enumerate(actions))
    )
    rows = fields(path, "frame.number", "frame.verdict.ebpf_xdp")
    assert rows == [[f"{n + 1}", "" if a is None else f"{a}"] for n, a in enumerate(actions)]
    told = [packet.options.get("epb_verdict") for packet in read_packets(path)]
    assert told == [None if a is None else [struct.pack("<BQ", 2, a)] for a in actions]


@pytest.mark.parametrize("name", ["pcapng", "pcap"])
def test_capinfos_counts_packets_and_bytes_and_finds_nothing_wrong(name, request):
    path = request.getfixturevalue(name)
    table = run("capinfos", "-T", "-M", "-c", "-d", "-l", path).decode().splitlines()
    row = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    assert row["Number of packets"] == str(len(PACKETS))
    assert row["Data size (bytes)"] == str(sum(CAPLENS))


def test_every_prefix_of_a_file_ends_at_a_whole_record(pcapng):
    """What a killed recorder leaves: a tolerant reader gets the packets that are whole."""
    data = pcapng.read_bytes()
    sizes = [len(enhanced_packet(n, p, len(p), 5 if n % 10 == 9 else 0)) for n, p in
             enumerate(PACKETS)]  # fmt: skip
    begin = len(data) - sum(sizes)
    for cut in range(begin, begin + sum(sizes[:12])):
        whole = sum(1 for n in range(12) if begin + sum(sizes[: n + 1]) <= cut)
        packets = list(read_packets(io.BytesIO(data[:cut]), tolerant=True))
        assert [p.data for p in packets] == PACKETS[:whole]
