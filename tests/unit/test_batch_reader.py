"""Capture files into packet sets: formats, what is left out, and every way to be cut short."""

from __future__ import annotations

import os
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.errors import UsageError
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile import headers
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.reader import read_packets

MACS = bytes.fromhex("020000000001020000000002")
FIRST_S = 1_795_253_400
FRAMES = [bytes([n]) * 12 + b"\x08\x00" + bytes([n]) * (20 + 7 * n) for n in range(1, 6)]
PCAP_HEADER, RECORD_HEADER = 24, 16
ORDERS = {"little-endian": "<", "big-endian": ">"}


def pcap(frames=FRAMES, order="<", *, nanoseconds=False, linktype=1, snaplen=262144) -> bytes:
    """A file with a packet a second, and a part of one."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, snaplen, linktype)]
    for n, frame in enumerate(frames):
        parts.append(struct.pack(order + "IIII", FIRST_S + n, 123_456 + n, len(frame), len(frame)))
        parts.append(frame)
    return b"".join(parts)


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def enhanced(order: str, ts_ns: int, frame: bytes, origlen: int | None = None) -> bytes:
    fixed = (0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(frame), origlen or len(frame))
    return block(order, 6, struct.pack(order + "5I", *fixed) + frame + bytes(-len(frame) % 4))


def pcapng(frames=FRAMES, order="<", linktype=1, snaplen=0) -> bytes:
    """The same packets, in nanoseconds, with a block between that is none of libpcap's."""
    nanoseconds = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    parts = [
        block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + nanoseconds),
    ]
    for n, frame in enumerate(frames):
        parts.append(enhanced(order, (FIRST_S + n) * 10**9 + 123_456_789 + n, frame))
        parts.append(block(order, 0xBAD, b"\1\2\3\4"))
    return b"".join(parts)


def opened(data: bytes, name="capture", **options) -> BatchReader:
    """A reader of a file in memory."""
    fd = os.memfd_create(name)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return BatchReader(fd, name, **options)


def read(data: bytes, **options) -> tuple[BatchReader, list[tuple[int, bytes, int]]]:
    """The reader at its end, and (ts_ns, bytes, number) of what it read."""
    packets = PacketSet()
    with opened(data, **options) as reader:
        reader.read(packets)
        assert reader.ended
    return reader, [packet[:3] for packet in packets]


def frames_of(data: bytes, **options) -> list[bytes]:
    return [packet[1] for packet in read(data, **options)[1]]


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("nanoseconds", "unit_ns"), [(False, 1000), (True, 1)])
def test_pcap_is_read_in_both_resolutions_and_byte_orders(order, nanoseconds, unit_ns):
    reader, packets = read(pcap(order=order, nanoseconds=nanoseconds))
    assert packets == [
        ((FIRST_S + n) * 10**9 + (123_456 + n) * unit_ns, frame, n + 1)
        for n, frame in enumerate(FRAMES)
    ]
    assert reader.damage is None
    assert (reader.packet_count, reader.truncated_count) == (5, 0)
    assert reader.linktype == "EN10MB"


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_pcapng_is_read_in_both_byte_orders_and_other_blocks_are_passed_over(order):
    reader, packets = read(pcapng(order=order))
    assert packets == [
        ((FIRST_S + n) * 10**9 + 123_456_789 + n, frame, n + 1) for n, frame in enumerate(FRAMES)
    ]
    assert reader.damage is None


def test_what_the_recorder_writes_is_read():
    record = struct.pack("<IIII", FIRST_S, 5, len(FRAMES[0]), len(FRAMES[0])) + FRAMES[0]
    assert frames_of(headers.pcap_header(0) + record) == FRAMES[:1]


@pytest.mark.parametrize("seconds", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_times_after_2038_are_read_as_what_they_are(seconds):
    record = struct.pack("<IIII", seconds, 7, 14, 14) + bytes(14)
    assert read(pcap([]) + record)[1][0][0] == seconds * 10**9 + 7000


def test_a_packet_longer_than_the_headers_snaplen_is_read_whole():
    for order in ORDERS.values():
        reader, packets = read(pcap([bytes(500)], order, snaplen=64))
        assert [packet[1] for packet in packets] == [bytes(500)]
        assert reader.truncated_count == 0


def test_packets_of_which_the_file_holds_the_start_only_are_counted():
    short = struct.pack("<IIII", FIRST_S, 0, 20, 1500) + bytes(20)
    reader, packets = read(pcap() + short + short)
    assert reader.truncated_count == 2
    assert packets[-1][1] == bytes(20)


def test_a_file_without_packets_is_a_capture():
    for data in (pcap([]), pcapng([])):
        reader, packets = read(data)
        assert (packets, reader.damage, reader.packet_count) == ([], None, 0)


def test_a_pipe_that_fills_slowly_is_read_as_a_file_is():
    for data in (pcap(), pcapng()):
        reading, writing = os.pipe()

        def feed(data=data, writing=writing):
            for at in range(0, len(data), 5):
                os.write(writing, data[at : at + 5])
            os.close(writing)

        writer = threading.Thread(target=feed)
        writer.start()
        packets = PacketSet()
        with BatchReader(reading, "pipe") as reader:
            reader.read(packets)
        writer.join()
        assert [packet[1] for packet in packets] == FRAMES
        assert reader.damage is None


# -- portions -------------------------------------------------------------------------------------


def test_a_file_is_read_in_portions_of_packets_or_bytes_without_a_seam():
    for bound in ({"max_packets": 2}, {"max_bytes": 60}):
        portions = []
        with opened(pcap()) as reader:
            while not reader.ended:
                packets = PacketSet()
                reader.read(packets, **bound)
                portions.append([packet[1] for packet in packets])
        assert [frame for portion in portions for frame in portion] == FRAMES
        assert len(portions) > 2


def test_a_set_goes_on_being_filled_from_several_files():
    packets = PacketSet()
    for data in (pcap(), pcapng()):
        with opened(data) as reader:
            reader.read(packets)
    assert [packet[1] for packet in packets] == FRAMES * 2
    assert [packet[2] for packet in packets] == [1, 2, 3, 4, 5] * 2


def test_closing_gives_the_descriptor_back_and_reading_on_reads_nothing():
    before = len(os.listdir("/proc/self/fd"))
    reader = opened(pcap())
    reader.close()
    reader.close()
    packets = PacketSet()
    reader.read(packets)
    assert len(packets) == 0
    for bad in (b"no capture", b"", pcap(linktype=113), pcap(linktype=101)):
        with pytest.raises(UsageError):
            opened(bad)
    assert len(os.listdir("/proc/self/fd")) == before


# -- linktypes ------------------------------------------------------------------------------------

V4, V6 = b"\x45" + bytes(39), b"\x60" + bytes(59)


@pytest.mark.parametrize(
    ("linktype", "kinds"),
    [(101, [0x0800, 0x86DD]), (228, [0x0800, 0x0800]), (229, [0x86DD, 0x86DD])],
)
@pytest.mark.parametrize("write", [pcap, pcapng])
def test_raw_ip_gets_an_ethernet_header(linktype, kinds, write):
    wanted = [
        MACS + struct.pack("!H", kind) + data for kind, data in zip(kinds, (V4, V6), strict=True)
    ]
    assert frames_of(write([V4, V6], linktype=linktype), macs=MACS) == wanted


def test_raw_ip_without_addresses_is_refused():
    with pytest.raises(UsageError) as caught:
        opened(pcap([V4], linktype=101), "x.pcap")
    assert str(caught.value) == (
        "x.pcap: raw IP has no Ethernet header; give --dst-mac and --src-mac"
    )


def test_addresses_are_for_raw_ip_alone():
    assert frames_of(pcap(), macs=MACS) == FRAMES


@pytest.mark.parametrize(("linktype", "name"), [(113, "LINUX_SLL"), (127, "IEEE802_11_RADIO")])
def test_another_linktype_is_refused_by_its_name(linktype, name):
    with pytest.raises(UsageError) as caught:
        opened(pcap(linktype=linktype), "x.pcap", macs=MACS)
    assert str(caught.value) == (
        f"x.pcap: linktype {name} can't be sent on Ethernet; only EN10MB and raw IP can"
    )


# -- what is left out -----------------------------------------------------------------------------


def test_packets_too_long_or_too_short_are_counted_with_their_numbers():
    sizes = [14, 13, 100, 101, 0, 100, 5000, 14]
    reader, packets = read(pcap([bytes(size) for size in sizes]), longest=100)
    assert [(len(data), number) for _, data, number in packets] == [
        (14, 1), (100, 3), (100, 6), (14, 8),
    ]  # fmt: skip
    assert reader.skipped == {"too_long": (2, [4, 7]), "too_short": (2, [2, 5])}
    assert reader.packet_count == 8


def test_the_first_numbers_of_many_are_kept_and_all_are_counted():
    reader, packets = read(pcap([bytes(101), bytes(3)] * 500), longest=100)
    assert packets == []
    assert reader.skipped == {
        "too_long": (500, list(range(1, 16, 2))),
        "too_short": (500, list(range(2, 17, 2))),
    }


def test_raw_ip_is_as_long_as_with_its_ethernet_header():
    data = pcap([bytes([0x45]) * size for size in (86, 87, 0, 1)], linktype=101)
    reader, packets = read(data, longest=100, macs=MACS)
    assert [len(packet[1]) for packet in packets] == [100, 15]
    assert reader.skipped == {"too_long": (1, [2]), "too_short": (1, [3])}


def test_the_longest_packet_that_libpcap_reads_is_read():
    assert frames_of(pcap([bytes(262144)]), longest=1 << 20) == [bytes(262144)]
    assert frames_of(pcap([bytes(262144)], linktype=101), longest=1 << 20, macs=MACS) == []


def test_short_packets_are_filled_up_to_60_bytes_when_asked_to():
    frames = [b"\7" * size for size in (13, 14, 59, 60, 61)]
    reader, packets = read(pcap(frames), pad=True)
    assert [packet[1] for packet in packets] == [frame.ljust(60, b"\0") for frame in frames[1:]]
    assert reader.skipped["too_short"] == (1, [1])
    raw = frames_of(pcap([V4], linktype=101), pad=True, macs=MACS)
    assert raw == [(MACS + b"\x08\x00" + V4).ljust(60, b"\0")]


# -- what is no capture, and what is a part of one ------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "x: empty; name a capture file"),
        (b"GIF89a" + bytes(100), "x: not a capture file (unknown file format)"),
        (pcap()[:10], "x: not a capture file (truncated dump file; tried to read 24"),
        (pcapng()[:20], "x: not a capture file ("),
        (pcapng([])[:28], "x: not a capture file (the capture file has no Interface"),
    ],
)
def test_what_is_no_capture_is_refused_in_one_line(data, said):
    with pytest.raises(UsageError) as caught:
        opened(data, "x")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_file_cut_at_any_byte_is_read_up_to_its_last_whole_packet(write, order, tmp_path):
    whole = write(order=order)
    path = tmp_path / "cut"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        try:
            reader, packets = read(whole[:cut])
        except UsageError as error:
            # In front of the first packet: pcap's header, or pcapng's first two blocks.
            assert cut < (PCAP_HEADER if write is pcap else len(pcapng([])))
            assert "\n" not in str(error)
            continue
        # The project's own reader is the independent one.
        before = list(read_packets(path, tolerant=True))
        assert [packet[1] for packet in packets] == [packet.data for packet in before]
        at_record = whole[:cut] in (write(FRAMES[:n], order) for n in range(6))
        if write is pcap or at_record:
            assert (reader.damage is None) == at_record
        if reader.damage is not None:
            last = PCAP_HEADER + sum(RECORD_HEADER + len(packet[1]) for packet in packets)
            where = f"at offset {last}, " if write is pcap else "at offset "
            assert reader.damage.startswith(f"capture: damaged {where}")
            assert f"after packet {len(packets)}: " in reader.damage


def test_the_offset_of_damage_is_known_in_a_pipe_as_well():
    reading, writing = os.pipe()
    os.write(writing, pcap()[:-3])
    os.close(writing)
    with BatchReader(reading, "standard input") as reader:
        reader.read(PacketSet())
    offset = len(pcap(FRAMES[:4]))
    assert reader.damage.startswith(f"standard input: damaged at offset {offset}, after packet 4: ")


def test_a_length_that_can_not_be_ends_the_file_at_its_record():
    for caplen in (0x7FFFFFFF, 0xFFFFFFFF, 262145):
        wrong = struct.pack("<IIII", FIRST_S, 0, caplen, caplen) + bytes(100)
        reader, packets = read(pcap() + wrong)
        assert [packet[1] for packet in packets] == FRAMES
        assert f"damaged at offset {len(pcap())}, after packet 5: " in reader.damage
        assert "\n" not in reader.damage


def test_interfaces_that_libpcap_does_not_read_together_are_explained():
    first = pcapng(FRAMES[:2], snaplen=96)
    other_snaplen = block("<", 1, struct.pack("<HHI", 1, 0, 128))
    other_type = block("<", 1, struct.pack("<HHI", 113, 0, 96))
    for interface, way_out in (
        (other_snaplen, "`tshark -r FILE -F pcap -w NEW` makes them one"),
        (other_type, "put the Ethernet interfaces' packets into a file of their own"),
    ):
        reader, packets = read(first + interface + enhanced("<", 0, FRAMES[2]))
        assert [packet[1] for packet in packets] == FRAMES[:2]
        # The last packet ends before the block of 16 bytes that follows it.
        assert f"can't be read beyond offset {len(first) - 16}, after packet 2" in reader.damage
        assert reader.damage.endswith(way_out)


@given(st.sampled_from([pcap, pcapng]), st.lists(st.tuples(st.integers(0), st.integers(0, 255)),
                                                 min_size=1, max_size=5))  # fmt: skip
def test_wrong_bytes_anywhere_are_survived_with_one_line(write, changes):
    data = bytearray(write())
    for at, value in changes:
        data[at % len(data)] = value
    try:
        reader, packets = read(bytes(data), macs=MACS)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    assert "\n" not in (reader.damage or "")
    skipped = sum(count for count, _ in reader.skipped.values())
    assert reader.packet_count == len(packets) + skipped
