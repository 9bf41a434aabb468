"""What is replayed of other projects' captures: every packet, byte for byte, in order.

The project's own reader in `savefile`, which shares no code with libpcap, says what is in
each packet.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest
from corpus import CAPTURES, ETHERNET, RAW_IP, REFUSED, is_capture, is_refused

from xdpcap.errors import UsageError
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.input_file import open_source
from xdpcap.savefile.reader import DamageError, read_packets

MACS = bytes.fromhex("020000000001020000000002")
LONGEST = 1 << 18

# What libpcap reads the start of only: a later interface differs from the first.
DIFFERS = re.compile(r"an interface has a (type|snapshot length) \d+ different from the \1 of")


def first_linktype(entry) -> int | None:
    """The linktype of the first interface, which is libpcap's for the file."""
    linktypes = entry["linktypes"]
    if len(linktypes) > 1:
        # 0 and 1: the generator's files describe their Ethernet interface first.
        return ETHERNET
    return linktypes[0] if linktypes else None


def sendable(manifest) -> list[dict]:
    """Captures whose first interface can be sent on Ethernet, and that libpcap opens."""
    return [
        entry
        for entry in manifest
        if is_capture(entry)
        and not is_refused(entry["file"])
        and first_linktype(entry) in {ETHERNET, *RAW_IP}
    ]


def read(path: Path, **options) -> tuple[BatchReader, list[tuple[int, bytes, int]]]:
    """A reader at its end, and (ts_ns, bytes, number) of each packet, as replay reads them."""
    packets = PacketSet()
    fd, name = open_source(str(path))
    with BatchReader(fd, name, longest=LONGEST, macs=MACS, **options) as reader:
        reader.read(packets)
    return reader, [packet[:3] for packet in packets]


def expected(entry) -> list[tuple[int, bytes, int]]:
    """What is to be sent of a file: by number, all but what no Ethernet frame can be."""
    found = []
    for number, packet in enumerate(read_packets(CAPTURES / entry["file"], tolerant=True), 1):
        head = b""
        if packet.linktype in RAW_IP and packet.data:
            version = packet.data[0] >> 4 if packet.linktype == 101 else 6
            ipv6 = version == 6 and packet.linktype != 228
            head = MACS + (b"\x86\xdd" if ipv6 else b"\x08\x00")
        if 14 <= len(head + packet.data) <= LONGEST:
            found.append((packet.ts_ns or 0, head + packet.data, number))
    return found


def test_every_whole_capture_is_read_as_the_manifest_counts_it(manifest):
    whole = [entry for entry in sendable(manifest) if not entry["damaged"]]
    assert len(whole) > 600
    differing, wrong = [], []
    for entry in whole:
        reader, packets = read(CAPTURES / entry["file"])
        if reader.damage is not None and DIFFERS.search(reader.damage):
            differing.append(entry["file"])
            continue
        skipped = sum(count for count, _ in reader.skipped.values())
        counts = (reader.packet_count, len(packets) + skipped, reader.damage)
        if counts != (entry["packets"], entry["packets"], None):
            wrong.append((entry["file"], counts))
        if packets and max(len(data) for _, data, _ in packets) < entry["max_caplen"]:
            wrong.append((entry["file"], entry["max_caplen"]))
    # A section of another major version; the manifest's parser goes by its blocks alone.
    assert {name for name, _ in wrong} == {
        "gopacket/pcapgo/be/test901.pcapng",
        "gopacket/pcapgo/le/test901.pcapng",
    }
    assert differing
    assert all(name.startswith("pcapng-test-generator/") for name in differing)


def test_every_packet_is_read_with_its_bytes_its_time_and_its_number(manifest):
    packet_count = 0
    for entry in sendable(manifest):
        reader, packets = read(CAPTURES / entry["file"])
        theirs = expected(entry)
        if reader.damage is not None:
            theirs = [packet for packet in theirs if packet[2] <= reader.packet_count]
        assert packets == theirs, entry["file"]
        packet_count += len(packets)
    assert packet_count > 10_000


def test_what_libpcap_does_not_read_on_is_explained_and_what_stands_before_is_read(manifest):
    """Interfaces that differ in linktype or snaplen; tcpdump refuses the same files."""
    kinds: Counter[str] = Counter()
    for entry in sendable(manifest):
        reader, packets = read(CAPTURES / entry["file"])
        if reader.damage is None or not (found := DIFFERS.search(reader.damage)):
            continue
        assert not entry["tcpdump_ok"]
        assert not entry["damaged"]
        kinds[found[1]] += 1
        assert "can't be read beyond offset " in reader.damage
        assert f", after packet {reader.packet_count}: " in reader.damage
        assert "; " in reader.damage
        assert "\n" not in reader.damage
        offset = int(re.search(r"beyond offset (\d+)", reader.damage)[1])
        assert 0 < offset < (CAPTURES / entry["file"]).stat().st_size
        assert packets == expected(entry)[: len(packets)]
    assert kinds["type"] >= 10
    assert kinds["snapshot length"] >= 8


def test_what_libpcap_does_not_open_is_refused_with_its_cause(manifest):
    refused = [entry for entry in manifest if is_capture(entry) and is_refused(entry["file"])]
    assert len(refused) == len(REFUSED) + 4
    for entry in refused:
        assert not entry["tcpdump_ok"]
        cause = REFUSED.get(entry["file"], "no Interface Description Blocks")
        with pytest.raises(UsageError, match=f": not a capture file .*{cause}"):
            read(CAPTURES / entry["file"])


def test_every_damaged_capture_of_the_manifest_is_refused_as_nothing_stands_before(manifest):
    """Their damage is in the header, so what stands before it is no packet."""
    damaged = [entry for entry in manifest if entry["damaged"]]
    assert {entry["file"] for entry in damaged} <= set(REFUSED)
    assert len(damaged) == 3


def test_another_linktype_is_refused_by_name(manifest):
    others = [
        entry
        for entry in manifest
        if is_capture(entry)
        and not is_refused(entry["file"])
        and first_linktype(entry) not in {ETHERNET, *RAW_IP}
    ]
    assert len(others) > 100
    for entry in others:
        with pytest.raises(UsageError) as caught:
            read(CAPTURES / entry["file"])
        message = str(caught.value)
        # libpcap keeps the two upper bytes of the field for other things.
        known = "linktype" in message or "reserved" in message
        assert known and "\n" not in message, entry["file"]


def test_what_is_no_capture_is_named_as_such(manifest):
    others = [entry for entry in manifest if not is_capture(entry)]
    assert others
    for entry in others:
        with pytest.raises(UsageError, match="not a capture file"):
            read(CAPTURES / entry["file"])


def test_a_capture_cut_anywhere_yields_the_packets_before_the_cut(manifest, tmp_path):
    """Cuts near both ends, where headers are, and in between; plain and through gzip."""
    path = tmp_path / "cut"
    for entry in sendable(manifest)[::5]:
        data = (CAPTURES / entry["file"]).read_bytes()
        whole = read(CAPTURES / entry["file"])[1]
        for cut in {41, 100, len(data) // 3, len(data) - 1, len(data) - 17}:
            if not 24 < cut < len(data):
                continue
            path.write_bytes(data[:cut])
            try:
                reader, before = read(path)
            except UsageError as error:
                assert entry["format"] == "pcapng", error
                continue
            assert before == whole[: len(before)], entry["file"]
            intact, is_whole = before_the_damage(path)
            if not ends_early(reader):
                assert reader.packet_count == intact, entry["file"]
                assert (reader.damage is None) == is_whole, entry["file"]
            path.write_bytes(gzip.compress(data[:cut], 1))
            again = read(path)
            assert again[1] == before
            assert again[0].damage == reader.damage


def before_the_damage(path: Path) -> tuple[int, bool]:
    """How many packets stand before any damage, and whether there is none."""
    count = 0
    try:
        for _ in read_packets(path):
            count += 1
    except DamageError:
        return count, False
    return count, True


def ends_early(reader: BatchReader) -> bool:
    """Whether libpcap ended for a reason that is no damage to the project's own reader."""
    return bool(reader.damage and DIFFERS.search(reader.damage))
