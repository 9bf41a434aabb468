"""The reader on files made by hand: fields, byte orders, and every kind of damage."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.savefile import headers
from xdpcap.savefile.reader import DamageError, Packet, read_blocks, read_packets

TS_NS = 1795253400_123456789


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str, major=1, minor=0) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, minor, -1))


def interface(order: str, options=b"", linktype=1, snaplen=0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + options)


def enhanced(order: str, ticks: int, data: bytes, options=b"", interface_id=0) -> bytes:
    fixed = (interface_id, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(
        order, 6, struct.pack(order + "5I", *fixed) + data + bytes(-len(data) % 4) + options
    )


def packets(data: bytes, **options) -> list[Packet]:
    return list(read_packets(io.BytesIO(data), **options))


def whole(order: str) -> bytes:
    nanoseconds = option(order, 9, b"\x09")
    return b"".join(
        (
            section(order),
            interface(order, nanoseconds),
            enhanced(order, TS_NS, b"first"),
            block(order, 0x0BAD, b"\1\2\3\4"),
            enhanced(order, TS_NS + 1, bytes(60)),
        )
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_is_read_in_both_byte_orders_and_resolutions(order, magic, unit_ns):
    data = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 96, 113)
    data += struct.pack(order + "IIII", 1795253400, 123456, 3, 1500) + b"abc"
    data += struct.pack(order + "IIII", 1795253401, 0, 0, 60)
    assert packets(data) == [
        Packet(1795253400_000000000 + 123456 * unit_ns, 3, 1500, b"abc", 0, 113, {}),
        Packet(1795253401_000000000, 0, 60, b"", 0, 113, {}),
    ]


def test_the_pcap_header_that_is_written_is_read():
    record = struct.pack("<IIII", 1795253400, 123456789, 2, 2) + b"ab"
    assert packets(headers.pcap_header(0) + record)[0].ts_ns == TS_NS


def test_a_frame_check_sequence_length_is_no_part_of_the_link_type():
    data = struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 96, 0x24000001)
    assert packets(data + bytes(16))[0].linktype == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_is_read_in_both_byte_orders_and_unknown_blocks_are_passed_over(order):
    assert packets(whole(order)) == [
        Packet(TS_NS, 5, 5, b"first", 0, 1, {}),
        Packet(TS_NS + 1, 60, 60, bytes(60), 0, 1, {}),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_options_of_a_packet_are_decoded_by_name(order):
    options = (
        option(order, 2, struct.pack(order + "I", 1))
        + option(order, 4, struct.pack(order + "Q", 1 << 40))
        + option(order, 5, struct.pack(order + "Q", 77))
        + option(order, 6, struct.pack(order + "I", 3))
        + option(order, 1, b"one")
        + option(order, 1, "zwö\0rest".encode())
        + option(order, 3, b"\2hash")
        + option(order, 0x8001, b"local")
        + option(order, 0, b"")
        + b"after the end"[:12]
    )
    data = section(order) + interface(order) + enhanced(order, 0, b"x", options)
    assert packets(data)[0].options == {
        "epb_flags": 1,
        "epb_dropcount": 1 << 40,
        "epb_packetid": 77,
        "epb_queue": 3,
        "opt_comment": ["one", "zwö"],
        "epb_hash": [b"\2hash"],
        "option_32769": b"local",
    }


def test_the_headers_that_are_written_are_read_field_by_field():
    data = (
        headers.section_header("cpu", "Linux", "xdpcap 1")
        + headers.interface_block(
            snaplen=96,
            name="eth0",
            description="up",
            mac=bytes(range(6)),
            speed_bps=10**10,
            filter="udp",
            os="Linux",
            comments=["clock"],
        )
        + headers.interface_statistics(
            0, TS_NS, starttime_ns=TS_NS - 2, endtime_ns=TS_NS - 1,
            ifrecv=5, ifdrop=4, filteraccept=3, osdrop=2, usrdeliv=1,
        )
    )  # fmt: skip
    first, second, third = read_blocks(io.BytesIO(data))
    assert first.name == "Section Header Block"
    assert first.fields == {"major": 1, "minor": 0, "section_length": -1}
    assert first.options == {
        "shb_hardware": "cpu",
        "shb_os": "Linux",
        "shb_userappl": "xdpcap 1",
    }
    assert second.offset == len(first.body) + 12
    assert second.fields == {"interface_id": 0, "linktype": 1, "snaplen": 96}
    assert second.options == {
        "opt_comment": ["clock"],
        "if_name": "eth0",
        "if_description": "up",
        "if_MACaddr": bytes(range(6)),
        "if_speed": 10**10,
        "if_tsresol": 9,
        "if_filter": b"\0udp",
        "if_os": "Linux",
    }
    assert third.fields == {"interface_id": 0, "ts_ns": TS_NS}
    assert third.options == {
        "isb_starttime": TS_NS - 2,
        "isb_endtime": TS_NS - 1,
        "isb_ifrecv": 5,
        "isb_ifdrop": 4,
        "isb_filteraccept": 3,
        "isb_osdrop": 2,
        "isb_usrdeliv": 1,
    }


@pytest.mark.parametrize(
    ("options", "ticks", "ts_ns"),
    [
        (b"", 1_500_000, 1_500_000_000),  # microseconds unless said otherwise
        (option("<", 9, b"\x00"), 7, 7_000_000_000),
        (option("<", 9, b"\x03"), 7, 7_000_000),
        (option("<", 9, b"\x0c"), 1999, 1),  # picoseconds
        (option("<", 9, b"\x8a"), 1536, 1_500_000_000),  # 1/1024 s
        (option("<", 9, b"\xff"), 1 << 63, 0),
        (option("<", 14, struct.pack("<q", 100)), 1, 100_000_001_000),
        (option("<", 14, struct.pack("<q", -1)), 2_000_000, 1_000_000_000),
    ],
)
def test_times_follow_the_resolution_and_offset_of_their_interface(options, ticks, ts_ns):
    data = section("<") + interface("<", options) + enhanced("<", ticks, b"x")
    assert packets(data)[0].ts_ns == ts_ns


def test_packets_belong_to_the_interface_they_name():
    data = section("<") + interface("<", linktype=1) + interface("<", linktype=113)
    data += enhanced("<", 0, b"x", interface_id=1) + enhanced("<", 0, b"y", interface_id=0)
    assert [(p.interface_id, p.linktype) for p in packets(data)] == [(1, 113), (0, 1)]


@pytest.mark.parametrize(("snaplen", "caplen"), [(0, 6), (100, 6), (4, 4)])
def test_a_simple_packet_has_no_time_and_is_cut_at_the_snap_length(snaplen, caplen):
    body = struct.pack("<I", 6) + b"sixsix"[:caplen] + bytes(-caplen % 4)
    data = section("<") + interface("<", snaplen=snaplen) + block("<", 3, body)
    assert packets(data) == [Packet(None, caplen, 6, b"sixsix"[:caplen], 0, 1, {})]


def test_the_obsolete_packet_block_is_read():
    body = struct.pack("<HHIIII", 0, 0xFFFF, 0, 5, 3, 9) + b"abc\0"
    data = section("<") + interface("<") + block("<", 2, body)
    assert packets(data) == [Packet(5000, 3, 9, b"abc", 0, 1, {})]


def test_a_new_section_has_its_own_byte_order_and_interfaces():
    data = whole("<") + whole(">")
    assert len(packets(data)) == 4
    data = whole("<") + section(">") + enhanced(">", 0, b"x")
    with pytest.raises(DamageError, match="interface 0, and the section has described 0"):
        packets(data)


def test_minor_version_2_is_read_as_0():
    assert packets(section("<", minor=2) + interface("<") + enhanced("<", 0, b"x"))


def test_an_option_of_a_wrong_length_is_kept_as_bytes():
    options = option("<", 6, b"\1") + option("<", 0, b"")
    data = section("<") + interface("<", options) + enhanced("<", 0, b"x")
    assert list(read_blocks(io.BytesIO(data)))[1].options == {"option_6": b"\1"}
    assert len(packets(data)) == 1


GOOD = section("<") + interface("<") + enhanced("<", 0, b"good")
AT = len(GOOD)


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (b"\6\0\0", "a block header cut off after 3 bytes"),
        (b"\6\0\0\0\x20\0\0", "a block header cut off after 7 bytes"),
        (enhanced("<", 0, b"bad!")[:-1], "a block of 36 bytes, of which 35 are there"),
        (bytes(64), "a block can't have a total length of 0 bytes"),
        (block("<", 6, b"")[:4] + b"\x0d\0\0\0" + bytes(9), "total length of 13 bytes"),
        (b"\6\0\0\0\xfc\xff\xff\xff", "a block of 4294967292 bytes, of which 8 are there"),
        (
            enhanced("<", 0, b"bad!")[:-4] + b"\x28\0\0\0",
            "total length 36 before the block and 40 after it",
        ),
        (enhanced("<", 0, b"x", interface_id=1), "interface 1, and the section has described 1"),
        (block("<", 5, struct.pack("<III", 9, 0, 0)), "interface 9, and the section"),
        (block("<", 6, struct.pack("<5I", 0, 0, 0, 5, 5) + b"four"), "a packet of 5 bytes"),
        (block("<", 6, bytes(16)), "too short for its 20 bytes of fields"),
        (block("<", 3, struct.pack("<I", 9) + b"four"), "a packet of 9 bytes"),
        (block("<", 1, bytes(4)), "Interface Description Block: a body of 4 bytes, too short"),
        (
            enhanced("<", 0, b"x", struct.pack("<HH", 1, 5) + b"four"),
            "Enhanced Packet Block: option 1 of 5 bytes, of which 4 are there",
        ),
        (interface("<", option("<", 9, b"\6\6")), "if_tsresol of 2 bytes"),
        (interface("<", option("<", 14, b"\6")), "if_tsoffset of 1 bytes"),
        (section("<", major=2), "Section Header Block: version 2.0 instead of 1.0"),
        (section("<")[:8] + b"abcd" + section("<")[12:], "byte-order magic 61626364"),
        (b"\x0a\x0d\x0d\x0a", "a block header cut off after 4 bytes"),
    ],
)
def test_damage_is_named_with_its_place_after_the_packets_before_it(tail, cause):
    read = []
    with pytest.raises(DamageError, match="damaged at byte") as caught:
        for packet in read_packets(io.BytesIO(GOOD + tail)):
            read.append(packet.data)
    assert read == [b"good"]
    assert cause in str(caught.value)
    assert caught.value.offset == AT
    assert [p.data for p in packets(GOOD + tail, tolerant=True)] == [b"good"]
    assert len(list(read_blocks(io.BytesIO(GOOD + tail), tolerant=True))) == 3


PCAP = headers.pcap_header(0) + struct.pack("<IIII", 0, 0, 4, 4) + b"good"


@pytest.mark.parametrize(
    ("data", "offset", "cause", "count"),
    [
        (PCAP + bytes(15), 44, "a record header of 15 bytes instead of 16", 1),
        (PCAP + struct.pack("<IIII", 0, 0, 9, 9) + b"x", 44, "9 bytes, of which 1 follow", 1),
        (PCAP + b"\xff" * 16, 44, "a packet of 4294967295 bytes, of which 0 follow", 1),
        (PCAP[:23], 0, "a file header of 23 bytes instead of 24", 0),
        (PCAP[:4] + b"\1\0" + PCAP[6:], 4, "version 1.4 instead of 2.4", 0),
        (PCAP[:20] + b"\1\0\0\x08" + PCAP[24:], 20, "reserved bits in the link type", 0),
        (PCAP[:3], 0, "a file of 3 bytes holds no header", 0),
        (b"", 0, "a file of 0 bytes holds no header", 0),
    ],
)
def test_damage_in_a_pcap_file_is_named_with_its_place(data, offset, cause, count):
    with pytest.raises(DamageError) as caught:
        packets(data)
    assert caught.value.offset == offset
    assert cause in caught.value.cause
    assert len(packets(data, tolerant=True)) == count


def test_another_kind_of_file_is_named_even_when_tolerant(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(bytes.fromhex("1f8b080000"))
    for read in (read_packets, read_blocks):
        with pytest.raises(XdpcapError, match=r"neither pcap nor pcapng, .* 1f 8b 08 00"):
            list(read(path, tolerant=True))


def test_a_pcap_file_has_no_blocks():
    with pytest.raises(XdpcapError, match="has no blocks"):
        list(read_blocks(io.BytesIO(PCAP)))


def test_a_file_that_can_not_be_opened_is_a_usage_error(tmp_path):
    for path, cause in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=cause):
            list(read_packets(path))


@given(st.data())
def test_any_file_raises_nothing_but_an_error_of_ours(data):
    """Whole files with a stretch overwritten, so that most of the structure survives."""
    original = data.draw(st.sampled_from([whole("<"), whole(">"), PCAP * 2]))
    at = data.draw(st.integers(0, len(original) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=12))
    damaged = original[:at] + noise + original[at + len(noise) :]
    try:
        strict = packets(damaged)
    except XdpcapError as error:
        assert "\n" not in str(error)
    else:
        assert strict == packets(damaged, tolerant=True)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_cut_at_any_byte_yields_the_whole_packets_before_the_cut(order):
    data = whole(order)
    first_ends = len(section(order)) + 28 + len(enhanced(order, 0, b"first"))
    for cut in range(len(data)):
        assert len(packets(data[:cut], tolerant=True)) == (1 if cut >= first_ends else 0)
