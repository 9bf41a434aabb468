"""Packets of a file as objects, through a filter."""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path

import pytest
from packet_builders import ICMP, TCP, UDP, arp, ip_packet, pcap
from terminals import drive

from xdpcap.errors import UsageError
from xdpcap.packets.filter import compile_expression
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.savefile.packet_reader import PacketReader

A, B = "192.0.2.1", "198.51.100.7"
MIXED = [
    ip_packet(A, B, TCP, (5000, 80)),
    ip_packet(A, B, UDP, (5000, 53)),
    arp(A, B),
    ip_packet(A, B, ICMP),
    ip_packet(A, B, UDP, (5000, 80)),
]


def reader(path: Path, content: bytes, expression: str = "") -> PacketReader:
    path.write_bytes(content)
    look = PacketReader(os.open(path, os.O_RDONLY), path.name)
    if expression:
        look.filter_by(Interpreter(compile_expression(expression).instructions))
    return look


def test_every_packet_comes_with_its_time_its_length_on_the_wire_and_its_bytes(tmp_path):
    snapped = struct.pack("<IIII", 7, 5, 4, 1500) + b"abcd"
    with reader(tmp_path / "f", pcap(*MIXED) + snapped) as look:
        packets = look.read(100)
        assert look.read(100) == []
        assert (look.ended, look.damage, look.packet_count) == (True, None, 6)
    times = [1_000_000_000_000 + number * 1_000_000 for number in range(5)]
    assert packets[:5] == [
        (ts_ns, len(data), data) for ts_ns, data in zip(times, MIXED, strict=True)
    ]
    assert packets[5] == (7_000_005_000, 1500, b"abcd")


@pytest.mark.parametrize(
    ("expression", "taken"),
    [("udp", [1, 4]), ("port 80", [0, 4]), ("not ip", [2]), ("icmp or arp", [2, 3]), ("sctp", [])],
)
def test_a_filter_leaves_out_what_it_does_not_take_and_counts_it(tmp_path, expression, taken):
    with reader(tmp_path / "f", pcap(*MIXED), expression) as look:
        assert [data for _, _, data in look.read(100)] == [MIXED[index] for index in taken]
        assert look.packet_count == 5


def test_packets_are_handed_out_in_portions_and_none_is_lost(tmp_path):
    with reader(tmp_path / "f", pcap(*MIXED), "ip") as look:
        portions = []
        while portion := look.read(3):
            portions.append(len(portion))
    assert portions == [3, 1]


def test_another_linktype_is_read_and_named(tmp_path):
    with reader(tmp_path / "f", pcap(b"\1\2\3", linktype=113)) as look:
        assert (look.linktype, look.linktype_name) == (113, "LINUX_SLL")
        assert [data for _, _, data in look.read(9)] == [b"\1\2\3"]


def test_what_stands_before_damage_is_handed_out_and_the_place_is_told(tmp_path):
    with reader(tmp_path / "f", pcap(*MIXED)[:-3]) as look:
        assert [data for _, _, data in look.read(100)] == MIXED[:4]
        assert look.ended
        assert look.damage.startswith("f: damaged at offset ")
        assert "after packet 4: truncated" in look.damage


@pytest.mark.parametrize(("content", "cause"), [(b"", "empty"), (b"PK\3\4" * 9, "not a capture")])
def test_what_is_no_capture_is_refused_and_its_descriptor_closed(tmp_path, content, cause):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UsageError, match=cause):
        reader(tmp_path / "f", content)
    assert os.listdir("/proc/self/fd") == before


def test_closing_again_is_harmless_and_nothing_follows(tmp_path):
    look = reader(tmp_path / "f", pcap(*MIXED), "udp")
    look.close()
    look.close()
    assert look.read(1) == []


def test_what_a_pipe_holds_does_not_wait_for_what_comes_later():
    reading, writing = os.pipe()
    os.write(writing, pcap(*MIXED[:2]))
    with PacketReader(reading, "pipe") as look:
        assert len(look.read(1000)) == 2
        threading.Timer(0.05, os.write, (writing, pcap(MIXED[2])[24:])).start()
        assert [data for _, _, data in look.read(1000)] == [MIXED[2]]
        os.close(writing)
        assert look.read(1000) == []
        assert look.damage is None


@pytest.mark.parametrize("written", ["b''", "pcap()", "pcap(ip_packet('1.1.1.1', '2.2.2.2'))"])
def test_a_signal_whose_handler_raises_ends_the_wait_for_a_silent_pipe(written):
    script = f"""
import os, signal, threading, time
from packet_builders import ip_packet, pcap
from xdpcap.savefile.packet_reader import PacketReader
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGUSR1, stop)
reading, writing = os.pipe()
os.write(writing, {written})
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
try:
    look = PacketReader(reading, "pipe")
    while True:
        look.read(1)
except TimeoutError:
    print("stopped")
"""
    done = drive(script)
    assert (done.stdout, done.stderr) == (b"stopped\n", b"")


def test_a_signal_whose_handler_returns_does_not_disturb_reading():
    script = """
import os, signal, threading, time
from packet_builders import ip_packet, pcap
from xdpcap.savefile.packet_reader import PacketReader
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
reading, writing = os.pipe()
os.write(writing, pcap())
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
threading.Timer(0.4, os.write, (writing, pcap(b"abc")[24:])).start()
print([data for _, _, data in PacketReader(reading, "pipe").read(1)], came)
"""
    assert drive(script).stdout == b"[b'abc'] [1]\n"


def test_a_filter_that_takes_nothing_of_a_large_file_does_not_hold_up_a_signal(tmp_path):
    # An endless pipe of packets that are all left out.
    script = """
import os, signal, threading
from packet_builders import ip_packet, pcap
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.savefile.packet_reader import PacketReader
from xdpcap.packets.filter import compile_expression
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGUSR1, stop)
reading, writing = os.pipe()
def fill():
    os.write(writing, pcap())
    many = pcap(*[ip_packet("1.1.1.1", "2.2.2.2")] * 500)[24:]
    while True:
        os.write(writing, many)
threading.Thread(target=fill, daemon=True).start()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
try:
    look = PacketReader(reading, "pipe")
    look.filter_by(Interpreter(compile_expression("arp").instructions))
    look.read(1)
except TimeoutError:
    print("stopped")
"""
    started = time.monotonic()
    assert drive(script).stdout == b"stopped\n"
    assert time.monotonic() - started < 20
