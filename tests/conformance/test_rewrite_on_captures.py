"""Edits of other projects' captures: tshark finds each checksum as right or wrong as before.

The captures hold hostile and damaged packets too; none may be made better or worse.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from corpus import CAPTURES

from xdpcap.errors import UsageError
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.flow import hash_of
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.input_file import open_source

MACS = bytes.fromhex("020000000001020000000002")
CHECKSUMS = ["ip", "tcp", "udp", "icmp", "icmpv6", "igmp", "sctp", "dccp", "vrrp", "hip"]
FIELDS = [f"{name}.checksum.status" for name in CHECKSUMS] + ["pim.cksum.status"]
CHECK = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"]
# Fragments one by one: a whole packet put together would hide which of them is wrong.
LEAVE = ["ip.defragment", "ipv6.defragment", "tcp.desegment_tcp_streams"]
GOOD = "1"


@pytest.fixture(scope="module")
def frames(manifest) -> list[bytes]:
    """Every packet of every capture that can be sent on Ethernet."""
    packets = PacketSet()
    for entry in manifest:
        fd, name = open_source(str(CAPTURES / entry["file"]))
        try:
            reader = BatchReader(fd, name, longest=1 << 18, macs=MACS)
        except UsageError:
            continue  # Another linktype, or no capture.
        with reader:
            reader.read(packets)
    assert len(packets) > 20_000
    return [packet[1] for packet in packets]


def edited(frames: list[bytes], **rules) -> list[bytes]:
    packets = PacketSet()
    for frame in frames:
        packets.append(frame)
    Rewriter(**rules).apply(packets)
    assert all(packet[3] == hash_of(packet[1]) for packet in packets)
    return [packet[1] for packet in packets]


def statuses(frames: list[bytes], path: Path) -> list[list[str]]:
    """What tshark says of each frame's checksums."""
    parts = [struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for index, frame in enumerate(frames):
        parts.append(struct.pack("<IIII", index, 0, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(parts))
    argv = ["tshark", "-n", "-r", path, "-T", "fields"]
    for name, value in [*((name, "TRUE") for name in CHECK), *((n, "FALSE") for n in LEAVE)]:
        argv += ["-o", f"{name}:{value}"]
    for field in FIELDS:
        argv += ["-e", field]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(frames)
    return rows


@pytest.fixture(scope="module")
def before(frames, tmp_path_factory) -> list[list[str]]:
    rows = statuses(frames, tmp_path_factory.mktemp("before") / "all.pcap")
    for column, least in (("ip", 10_000), ("tcp", 4_000), ("udp", 3_000), ("icmpv6", 150)):
        found = sum(row[CHECKSUMS.index(column)].startswith(GOOD) for row in rows)
        assert found >= least, column
    return rows


@pytest.mark.parametrize(
    "rules",
    [
        {"seed": 5},
        {"map_ip": ("0.0.0.0/1:128.0.0.0/1", "128.0.0.0/1:0.0.0.0/1", "::/0:::/0")},
        {"map_ip": ("2000::/3:4000::/3", "fe80::/10:fec0::/10"), "vlan": "add:5"},
    ],
    ids=["random", "ipv4 mapped", "ipv6 mapped and tagged"],
)
def test_every_checksum_is_as_right_or_wrong_as_it_was(frames, before, rules, tmp_path):
    changed = edited(frames, **rules)
    assert sum(old != new for old, new in zip(frames, changed, strict=True)) > len(frames) // 20
    after = statuses(changed, tmp_path / "all.pcap")
    wrong = [
        (frame.hex(), old, new)
        for frame, old, new in zip(frames, before, after, strict=True)
        if old != new
    ]
    assert not wrong


def test_what_was_mapped_comes_back_byte_by_byte(frames):
    there = ("10.0.0.0/8:99.0.0.0/8", "192.168.0.0/16:99.99.0.0/16", "2001::/16:3ffd::/16")
    back = ("99.0.0.0/8:10.0.0.0/8", "99.99.0.0/16:192.168.0.0/16", "3ffd::/16:2001::/16")
    # Packets that hold such an address before can't be told apart afterwards.
    free = [frame for frame in frames if b"\x63" not in frame and b"\x3f\xfd" not in frame]
    assert len(free) > 10_000
    changed = edited(free, map_ip=there)
    assert changed != free
    assert edited(changed, map_ip=back) == free


def test_tags_come_and_go_without_a_trace(frames):
    assert edited(edited(frames, vlan="add:77"), vlan="del") == frames
