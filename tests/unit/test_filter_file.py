"""`xdpcap filter`: what matches, as it was, in whichever format."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest
from capture_files import contents
from command_line import one_line, run

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.packets.filter import compile_expression
from xdpcap.savefile import headers
from xdpcap.savefile.encode import RecordEncoder
from xdpcap.savefile.reader import read_blocks, read_packets

UDP = [numbered_frame(60 + number, number) for number in range(20)]
TCP = [frame[:23] + b"\x06" + frame[24:] for frame in UDP[::4]]
TIME_NS = 1_700_000_000_123_456_789
COMMENTED = b"\x0b\0\0\0" + bytes.fromhex("14000000 12345678 9abcdef0") + b"\x14\0\0\0"


def pcap(path: Path, frames: list[bytes], linktype: int = 1) -> Path:
    records = (headers.pcap_record(TIME_NS + n, f, len(f) + 7) for n, f in enumerate(frames))
    path.write_bytes(headers.pcap_header(0, linktype) + b"".join(records))
    return path


def pcapng(path: Path, frames: list[bytes], linktype: int = 1) -> Path:
    blocks = [
        headers.section_header("machine", "os", "application"),
        headers.interface_block(snaplen=0, name="eth7", linktype=linktype, comments=("a comment",)),
        COMMENTED,  # of a type that nobody knows
        *(headers.enhanced_packet(0, TIME_NS + n, f, len(f) + 7) for n, f in enumerate(frames)),
        headers.interface_statistics(0, TIME_NS, ifrecv=25),
    ]
    path.write_bytes(b"".join(blocks))
    return path


@pytest.mark.parametrize("target", ["out.pcap", "out.pcapng"])
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_packet_that_matches_keeps_its_time_its_bytes_and_its_length(tmp_path, make, target):
    source, out = make(tmp_path / f"in.{make.__name__}", UDP + TCP), tmp_path / target
    assert run("filter", str(source), str(out), "ip", "proto", "\\tcp") == 0
    before = [(p.ts_ns, p.origlen, p.data) for p in read_packets(source)]
    after = [(p.ts_ns, p.origlen, p.data) for p in read_packets(out)]
    assert after == before[len(UDP) :]


def test_of_a_pcapng_file_everything_but_packets_goes_over_byte_for_byte(tmp_path):
    source, out = pcapng(tmp_path / "in.pcapng", UDP + TCP), tmp_path / "out.pcapng"
    assert run("filter", str(source), str(out), "tcp") == 0
    expected = pcapng(tmp_path / "expected.pcapng", TCP)
    mine = [(b.type, b.body) for b in read_blocks(out) if b.type != 6]
    assert mine == [(b.type, b.body) for b in read_blocks(expected) if b.type != 6]
    assert run("filter", str(source), str(out), "-f", "") == 0
    assert out.read_bytes() == source.read_bytes()


def test_what_stands_beside_a_packet_goes_over_with_it(tmp_path):
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    encode = RecordEncoder("pcapng", queue=3, hash_algorithm=5).encode
    records = [
        encode(frame, TIME_NS + n, hash=n, verdict=n % 5, drop_count=n)
        for n, frame in enumerate(UDP + TCP)
    ]
    head = pcapng(tmp_path / "head", []).read_bytes()
    source.write_bytes(head + b"".join(records))
    assert run("filter", str(source), str(out), "tcp") == 0
    assert out.read_bytes() == head + b"".join(records[len(UDP) :])


def test_a_section_that_said_its_length_leaves_it_open(tmp_path):
    source, out = pcapng(tmp_path / "in.pcapng", UDP), tmp_path / "out.pcapng"
    data = bytearray(source.read_bytes())
    data[16:24] = (len(data) - int.from_bytes(data[4:8], "little")).to_bytes(8, "little")
    source.write_bytes(data)
    assert run("filter", str(source), str(out), "tcp") == 0
    assert next(read_blocks(out)).fields["section_length"] == -1


def test_length_is_that_on_the_wire(tmp_path):
    source, out = pcap(tmp_path / "in.pcap", UDP), tmp_path / "out.pcap"
    assert run("filter", str(source), str(out), "greater", "80") == 0
    assert contents([out]) == [f for f in UDP if len(f) + 7 >= 80]


def test_each_linktype_has_its_own_meaning_and_pcap_has_room_for_one(tmp_path, capsys):
    both = tmp_path / "both.pcapng"
    raw = pcapng(tmp_path / "raw.pcapng", [frame[14:] for frame in TCP], 101).read_bytes()
    both.write_bytes(pcapng(tmp_path / "in.pcapng", UDP + TCP).read_bytes() + raw)
    out = tmp_path / "out.pcapng"
    assert run("filter", "-q", str(both), str(out), "tcp") == 0
    assert contents([out]) == TCP + [frame[14:] for frame in TCP]
    assert run("filter", str(both), str(tmp_path / "out.pcap"), "tcp") == 1
    assert "linktypes 1 and 101" in one_line(capsys)
    assert not (tmp_path / "out.pcap").exists()


def test_compressed_input_and_standard_output_in_the_format_of_the_input(tmp_path):
    for make in (pcap, pcapng):
        source = make(tmp_path / "in", UDP + TCP)
        source.write_bytes(gzip.compress(source.read_bytes()))
        with source.open("rb") as stdin:
            command = [sys.executable, "-m", "xdpcap", "filter", "-", "-", "tcp"]
            done = subprocess.run(command, stdin=stdin, check=True, capture_output=True)
        assert contents([io.BytesIO(done.stdout)]) == TCP
        assert done.stderr == b"5 of 25 packets match\n"


@pytest.mark.parametrize("target", ["out.pcap", "out.pcapng"])
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_nothing_that_matches_is_a_file_without_packets(tmp_path, make, target):
    source, out = make(tmp_path / "in", UDP), tmp_path / target
    assert run("filter", str(source), str(out), "tcp") == 0
    assert contents([out]) == []
    empty = make(tmp_path / "none", [])
    assert run("filter", str(empty), str(out), "tcp") == 0
    assert contents([out]) == []


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_what_stands_before_damage_is_copied_and_told(tmp_path, capsys, make):
    source, out = make(tmp_path / "in", TCP), tmp_path / "out.pcapng"
    source.write_bytes(source.read_bytes()[:-140])
    assert run("filter", "-q", str(source), str(out), "tcp") == 1
    assert f"{source}" in one_line(capsys)
    kept = contents([out])
    assert 0 < len(kept) < len(TCP) + (make is pcapng)
    assert kept == TCP[: len(kept)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{in}", "{out}.pcap"], "no filter"),
        (["{in}", "{out}.pcap", "tcp prot 3"], "syntax error"),
        (["{in}", "{out}.txt", "tcp"], "neither .pcapng nor .pcap"),
        (["{in}", "{in}", "tcp"], "the capture itself"),
        (["{out}", "{out}.pcap", "tcp"], "No such file"),
        (["{in}", "{out}.pcap", "-f", "tcp", "udp"], "say it in one place"),
        (["{in}", "{out}.pcap", "-F", "/none"], "-F /none: No such file"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_exit_code_2(tmp_path, capsys, words, said):
    names = {"in": pcap(tmp_path / "in.pcap", UDP), "out": tmp_path / "out"}
    before = names["in"].read_bytes()
    assert run("filter", *(word.format_map(names) for word in words)) == 2
    assert said in one_line(capsys)
    assert names["in"].read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [names["in"]]


def test_an_expression_from_a_file_may_have_comments(tmp_path):
    source, out = pcap(tmp_path / "in.pcap", UDP + TCP), tmp_path / "out.pcap"
    (tmp_path / "expression").write_text("# what we want\nip and # or arp\ntcp\n")
    assert run("filter", str(source), str(out), "-F", str(tmp_path / "expression")) == 0
    compiled = compile_expression("ip and tcp")
    assert contents([out]) == [f for f in UDP + TCP if compiled.matches(f)]
