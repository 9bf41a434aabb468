"""The reader on other projects' captures, against an independent parser's counts."""

import io
import subprocess

import pytest
from corpus import CAPTURES, is_capture

from xdpcap.errors import XdpcapError
from xdpcap.savefile.reader import DamageError, read_blocks, read_packets

# Whole files that break a MUST of the drafts; libpcap and Wireshark refuse them as well.
REFUSED = {
    "libpcap/linktype-reserved-field-not-zero.pcap": "reserved bits in the link type",
    "libpcap/pcapng-invalid-vers-1.pcapng": "version 0.1 instead of 1.0",
    "libpcap/pcapng-invalid-vers-2.pcapng": "version 1.1 instead of 1.0",
    "gopacket/pcapgo/be/test901.pcapng": "version 2.0 instead of 1.0",
    "gopacket/pcapgo/le/test901.pcapng": "version 2.0 instead of 1.0",
}


def summary(packets) -> dict:
    return {
        "packets": len(packets),
        "packet_bytes": sum(p.origlen for p in packets),
        "max_caplen": max((p.caplen for p in packets), default=0),
    }


def test_every_whole_capture_reads_as_the_manifest_says(manifest):
    entries = [
        e for e in manifest if is_capture(e) and not e["damaged"] and e["file"] not in REFUSED
    ]
    assert len(entries) > 700
    wrong = []
    for entry in entries:
        packets = list(read_packets(CAPTURES / entry["file"]))
        expected = {key: entry[key] for key in ("packets", "packet_bytes", "max_caplen")}
        if summary(packets) != expected or any(p.caplen != len(p.data) for p in packets):
            wrong.append((entry["file"], summary(packets), expected))
        if not {p.linktype for p in packets} <= set(entry["linktypes"]):
            wrong.append((entry["file"], entry["linktypes"]))
    assert not wrong


def as_tshark_prints(packet) -> list[str]:
    seconds, nanoseconds = divmod(packet.ts_ns or 0, 1_000_000_000)
    time = "" if packet.ts_ns is None else f"{seconds}.{nanoseconds:09d}"
    return [time, str(packet.caplen), str(packet.origlen), str(packet.interface_id)]


def test_times_lengths_and_interfaces_are_those_that_tshark_reads(manifest):
    """On the files that vary resolution, offset, byte order, block type and interface."""
    entries = [e for e in manifest if e["file"].startswith("pcapng-test-generator/")]
    assert len(entries) > 40
    columns = "frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_id"
    fields = [word for column in columns for word in ("-e", column)]
    for entry in entries:
        path = CAPTURES / entry["file"]
        argv = ["tshark", "-n", "-r", path, "-T", "fields", *fields]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        # tshark lists custom blocks between the packets; they have no interface.
        theirs = [row for row in rows if row[3]]
        assert [as_tshark_prints(p) for p in read_packets(path)] == theirs, entry["file"]


def test_a_capture_that_breaks_the_format_is_refused_with_its_cause(manifest):
    by_name = {entry["file"]: entry for entry in manifest}
    for name, cause in REFUSED.items():
        assert not by_name[name]["tcpdump_ok"] and not by_name[name]["capinfos_ok"]
        with pytest.raises(DamageError, match=cause):
            list(read_packets(CAPTURES / name))


def test_a_damaged_capture_raises_one_line_naming_the_place(manifest):
    damaged = [entry for entry in manifest if entry["damaged"]]
    assert damaged
    for entry in damaged:
        path = CAPTURES / entry["file"]
        with pytest.raises(DamageError) as caught:
            list(read_packets(path))
        message = str(caught.value)
        assert message.startswith(f"{path}: damaged at byte {caught.value.offset}: ")
        assert "\n" not in message
        list(read_packets(path, tolerant=True))


def test_what_is_no_capture_is_named_as_such(manifest):
    others = [entry for entry in manifest if not is_capture(entry)]
    assert others
    for entry in others:
        with pytest.raises(XdpcapError, match="neither pcap nor pcapng"):
            list(read_packets(CAPTURES / entry["file"], tolerant=True))


def test_every_pcapng_capture_is_covered_by_its_blocks(manifest):
    for entry in manifest:
        if entry["format"] != "pcapng" or entry["damaged"] or entry["file"] in REFUSED:
            continue
        path = CAPTURES / entry["file"]
        blocks = list(read_blocks(path))
        assert sum(len(b.body) + 12 for b in blocks) == path.stat().st_size
        linktypes = {b.fields["linktype"] for b in blocks if b.type == 1}
        assert linktypes == set(entry["linktypes"]), entry["file"]


def test_a_capture_cut_anywhere_yields_the_packets_before_the_cut(manifest):
    """Nine cuts a file: near both ends, where headers are, and in between."""
    for entry in manifest:
        if not is_capture(entry) or entry["damaged"] or entry["file"] in REFUSED:
            continue
        data = (CAPTURES / entry["file"]).read_bytes()
        whole = list(read_packets(io.BytesIO(data)))
        cuts = {1, 5, 21, 41, 100, len(data) // 3, len(data) - 1, len(data) - 5, len(data) - 17}
        for cut in cuts:
            if 0 < cut < len(data):
                before = list(read_packets(io.BytesIO(data[:cut]), tolerant=True))
                assert before == whole[: len(before)]
                assert len(before) < len(whole) or not whole or entry["format"] == "pcapng"


def test_a_capture_with_a_wrong_byte_anywhere_never_ends_in_a_raw_exception(manifest):
    small = [e for e in manifest if is_capture(e) and (CAPTURES / e["file"]).stat().st_size < 1200]
    assert len(small) > 200
    for entry in small[::4]:
        data = bytearray((CAPTURES / entry["file"]).read_bytes())
        for at in range(0, min(len(data), 260)):
            original = data[at]
            data[at] ^= 0xFF
            try:
                for _ in read_packets(io.BytesIO(data)):
                    pass
            except XdpcapError as error:
                assert "\n" not in str(error)
            data[at] = original
