"""File headers: byte for byte, and as capinfos, tshark and tcpdump understand them."""

import json
import os
import struct
import subprocess

import pytest

from xdpcap.savefile import headers

# 2026-11-21T09:30:00.123456789Z
TS_NS = 1795253400_123456789
PACKET = bytes.fromhex("ffffffffffff020000000001080045000014000000004011") + bytes(36)


def enhanced_packet(ts_ns: int, data: bytes) -> bytes:
    """An Enhanced Packet Block by hand, so that other tools have a packet to read."""
    body = struct.pack("<IIIII", 0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(data), len(data))
    body += data + bytes(-len(data) % 4)
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", 6) + length + body + length


def from_hex(text: str) -> bytes:
    """Hex digits, with a comment after # on any line."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


def run(*argv) -> str:
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(a) for a in argv], check=False, capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def whole_file(tmp_path):
    path = tmp_path / "whole.pcapng"
    path.write_bytes(
        headers.section_header("Test CPU (x86_64)", "Linux 6.18", "xdpcap 0.1.0")
        + headers.interface_block(
            snaplen=96,
            name="eth0",
            description="the uplink",
            mac=bytes.fromhex("02005e1020ff"),
            speed_bps=25_000_000_000,
            filter="tcp port 80",
            os="Linux 6.18",
            comments=["clock: CLOCK_TAI, offset to UTC measured every second"],
        )
        + enhanced_packet(TS_NS, PACKET)
        + headers.interface_statistics(
            0,
            TS_NS + 2_000_000_000,
            starttime_ns=TS_NS - 1_000_000_000,
            endtime_ns=TS_NS + 1_000_000_000,
            ifrecv=110,
            ifdrop=10,
            filteraccept=100,
            osdrop=3,
            usrdeliv=97,
        )
    )
    return path


def test_a_section_header_is_these_bytes():
    assert headers.section_header("cpu", "Linux", "app1") == from_hex(
        """
        0a0d0d0a 3c000000  # type, total length
        4d3c2b1a 0100 0000 ffffffffffffffff  # magic, version 1.0, length -1
        0200 0300 63707500  # shb_hardware "cpu", padded
        0300 0500 4c696e7578000000  # shb_os "Linux", padded
        0400 0400 61707031  # shb_userappl "app1"
        00000000  # opt_endofopt
        3c000000
        """
    )


def test_a_section_header_without_texts_has_no_options():
    assert headers.section_header("", "", "") == from_hex(
        """
        0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000
        """
    )


def test_an_interface_block_is_these_bytes():
    block = headers.interface_block(
        snaplen=0,
        name="eth0",
        description="up",
        mac=bytes.fromhex("02005e1020ff"),
        speed_bps=10_000_000_000,
        filter="udp",
        os="L",
        comments=["c"],
    )
    assert block == from_hex(
        """
        01000000 60000000
        0100 0000 00000000  # Ethernet, reserved, no limit
        0100 0100 63000000  # opt_comment
        0200 0400 65746830  # if_name
        0300 0200 75700000  # if_description
        0600 0600 02005e1020ff0000  # if_MACaddr
        0800 0800 00e40b5402000000  # if_speed
        0900 0100 09000000  # if_tsresol: nanoseconds
        0b00 0400 00756470  # if_filter: 0, then the expression
        0c00 0100 4c000000  # if_os
        00000000
        60000000
        """
    )


def test_what_is_not_known_of_an_interface_is_left_out():
    block = headers.interface_block(snaplen=262144, name="e", speed_bps=0, filter="", comments=[])
    assert block == from_hex(
        """
        01000000 28000000 01000000 00000400
        0200010065000000 0900010009000000 00000000 28000000
        """
    )


def test_interface_statistics_are_these_bytes():
    block = headers.interface_statistics(
        1, 0x0102030405060708, starttime_ns=0x1112131415161718, endtime_ns=2,
        ifrecv=5, ifdrop=6, filteraccept=7, osdrop=8, usrdeliv=1 << 63,
    )  # fmt: skip
    assert block == from_hex(
        """
        05000000 70000000
        01000000 0403020108070605  # interface, timestamp: upper word first
        02000800 1413121118171615
        03000800 0000000002000000
        04000800 0500000000000000
        05000800 0600000000000000
        06000800 0700000000000000
        07000800 0800000000000000
        08000800 0000000000000080
        00000000
        70000000
        """
    )


def test_statistics_that_are_not_known_are_left_out():
    assert headers.interface_statistics(0, 0) == from_hex(
        """
        0500000018000000 000000000000000000000000 18000000
        """
    )


@pytest.mark.parametrize(("snaplen", "written"), [(0, "00000400"), (96, "60000000")])
def test_a_pcap_header_is_these_bytes(snaplen, written):
    assert headers.pcap_header(snaplen) == bytes.fromhex(
        "4d3cb2a1020004000000000000000000" + written + "01000000"
    )


def test_capinfos_reads_every_field_of_the_headers(whole_file):
    text = run("capinfos", "-M", whole_file)
    for expected in (
        "Number of packets:   1",
        "Capture hardware:    Test CPU (x86_64)",
        "Capture oper-sys:    Linux 6.18",
        "Capture application: xdpcap 0.1.0",
        "Name = eth0",
        "Description = the uplink",
        "Encapsulation = Ethernet (1 - ether)",
        "Speed = 25000000000",
        "Capture length = 96",
        "Time precision = nanoseconds (9)",
        "Filter string = tcp port 80",
        "Operating system = Linux 6.18",
        "Comment = clock: CLOCK_TAI, offset to UTC measured every second",
        "Number of stat entries = 1",
    ):
        assert expected in text, f"{expected!r} not in:\n{text}"


def test_tshark_reads_the_time_to_the_nanosecond(whole_file):
    line = run("tshark", "-r", whole_file, "-T", "fields", "-e", "frame.time_epoch")
    assert line.strip() == "1795253400.123456789"


def test_tshark_reads_the_interface_statistics(whole_file):
    # This format dissects the file itself: every block and option becomes a line.
    text = run(
        "tshark", "-X", "read_format:MIME Files Format", "-r", whole_file, "-V", "-O", "file-pcapng"
    )
    for expected in (
        "Option: MAC Address = 02:00:5e:10:20:ff",
        "Option: Number of Received Packets = 110",
        "Option: Number of Dropped Packets = 10",
        "Option: Number of Accepted Packets = 100",
        "Option: Number of Packets Dropped by OS = 3",
        "Option: Number of Packets Delivered to the User = 97",
        "Timestamp: Nov 21, 2026 09:30:02.123456789 UTC",
    ):
        assert expected in text, f"{expected!r} not in:\n{text}"


@pytest.mark.parametrize("snaplen", [0, 60])
def test_capinfos_and_tcpdump_read_a_pcap_header(tmp_path, snaplen):
    path = tmp_path / "a.pcap"
    seconds, nanoseconds = divmod(TS_NS, 1_000_000_000)
    record = struct.pack("<IIII", seconds, nanoseconds, len(PACKET), 1500) + PACKET
    path.write_bytes(headers.pcap_header(snaplen) + record)
    text = run("capinfos", "-M", path)
    assert "File type:           nsecpcap" in text
    assert f"file hdr: {snaplen or 262144} bytes" in text
    assert "Number of packets:   1" in text
    line = run("tcpdump", "-n", "-tt", "--time-stamp-precision=nano", "-r", path)
    assert line.startswith("1795253400.123456789 ")


def test_a_text_is_valid_utf8_without_a_nul_and_at_most_an_option_long():
    name = "et\0h\udcff" + "é" * 40000
    block = headers.interface_block(snaplen=0, name=name)
    code, length = struct.unpack_from("<HH", block, 16)
    value = block[20 : 20 + length]
    assert code == 2
    assert length == 65534  # 4 bytes, then two for each é: the option's limit cuts none in half
    assert value.decode("utf-8") == "eth?" + "é" * 32765
    assert len(block) % 4 == 0


def test_a_mac_address_of_another_length_is_refused():
    with pytest.raises(ValueError, match="6 bytes"):
        headers.interface_block(snaplen=0, name="e", mac=bytes(8))


def test_a_time_outside_64_bits_is_refused():
    with pytest.raises(ValueError, match="64 bits"):
        headers.interface_statistics(0, -1)


def test_the_host_describes_itself():
    machine = run("uname", "-m").strip()
    assert machine in headers.host_hardware()
    assert headers.host_os().startswith(f"Linux {run('uname', '-r').strip()}")


def test_the_json_of_tshark_names_the_interface(whole_file):
    packet = json.loads(run("tshark", "-r", whole_file, "-T", "json"))[0]
    frame = packet["_source"]["layers"]["frame"]
    assert frame["frame.interface_id_tree"]["frame.interface_name"] == "eth0"
