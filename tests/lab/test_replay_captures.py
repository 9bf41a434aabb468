"""Other projects' captures leave the interface as they are: every byte, in order, none twice.

What is in each file is told by the project's own strict reader, which shares no code with
libpcap, through which replay reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
from capture_files import contents
from corpus import CAPTURES, ETHERNET, is_capture, is_refused
from packet_builders import pcap
from replayer import Replay, Sent
from tcpdump import Tcpdump

from xdpcap.bench.lab import Lab
from xdpcap.savefile.packet import Packet
from xdpcap.savefile.pcapng import INTERFACE_DESCRIPTION
from xdpcap.savefile.reader import DamageError, read_blocks, read_packets

HEADER, TAG = 14, 4
PCAPNG = b"\x0a\x0d\x0d\x0a"
TAGGED = (b"\x81\x00", b"\x88\xa8")
# How many numbers of packets that were left out a report names for each file.
NUMBERS = 8

# The MTU that is usual, and the largest that a veth takes.
MTUS = (1500, 65535)


# -- what is to be expected -----------------------------------------------------------------


@dataclass
class Expected:
    """What a replay of these files sends and says, at one MTU."""

    mtu: int
    files: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=lambda: {"too_long": 0, "too_short": 0})
    numbers: dict[str, list[int]] = field(default_factory=lambda: {"too_long": [], "too_short": []})
    truncated: int = 0

    def add(self, name: str, packets: list[Packet]) -> None:
        """One more file, and what can be read of it."""
        self.files.append(name)
        numbers: dict[str, list[int]] = {"too_long": [], "too_short": []}
        for number, packet in enumerate(packets, 1):
            self.truncated += packet.caplen < packet.origlen
            room = self.mtu + HEADER + (TAG if packet.data[12:14] in TAGGED else 0)
            if len(packet.data) > room:
                numbers["too_long"].append(number)
            elif len(packet.data) < HEADER:
                numbers["too_short"].append(number)
            else:
                self.frames.append(packet.data)
                self.sources.append(f"{name}: packet {number}")
        for cause, found in numbers.items():
            self.skipped[cause] += len(found)
            self.numbers[cause] += found[:NUMBERS]

    @property
    def paths(self) -> list[str]:
        """The files' whole names."""
        return [str(CAPTURES / name) for name in self.files]

    def check_report(self, report) -> None:
        """The report of a replay of all these files counts exactly this."""
        assert report["sent"] == len(self.frames)
        assert report["bytes"] == sum(map(len, self.frames))
        assert report["skipped"] == self.skipped
        assert report["skipped_numbers"] == self.numbers
        assert report["truncated"] == self.truncated
        assert report["tx_errors"]["tx_invalid_descs"] == 0

    def check_arrived(self, arrived: list[bytes]) -> None:
        """Exactly these frames, in this order; the message names the first other one."""
        for frame, other, source in zip(self.frames, arrived, self.sources, strict=False):
            assert other == frame, source
        assert len(arrived) == len(self.frames)


def before_another_interface(path: Path) -> int | None:
    """How many packets stand before an interface that differs from the file's first one.

    libpcap has one linktype and one snaplen a file and reads no further.  None when there
    is no such interface.
    """
    if path.read_bytes()[:4] != PCAPNG:
        return None
    first, packet_count = None, 0
    for block in read_blocks(path, tolerant=True):
        if block.type == INTERFACE_DESCRIPTION:
            kind = block.fields["linktype"], block.fields["snaplen"]
            first = first or kind
            if kind != first:
                return packet_count
        packet_count += "data" in block.fields
    return None


def readable(path: Path) -> tuple[list[Packet], bool]:
    """The packets of a file as far as it can be read, and whether that is to its end."""
    found = []
    most = before_another_interface(path)
    try:
        for packet in islice(read_packets(path), most):
            found.append(packet)
    except DamageError:
        return found, False
    return found, most is None


def ethernet_files(manifest) -> list[str]:
    """Captures of Ethernet that can be read at all; tests/conformance has the others."""
    return [
        entry["file"]
        for entry in manifest
        if is_capture(entry) and not is_refused(entry["file"]) and ETHERNET in entry["linktypes"]
    ]


# -- the far end ----------------------------------------------------------------------------


@pytest.fixture
def replayed(record, tmp_path):
    """One replay of the files, and what `by` saw of it at the far end of the lab."""

    def run(lab: Lab, by: str, expected: Expected, *options: str) -> tuple[Sent, list[bytes]]:
        frames = expected.frames
        arguments = [*expected.paths, "--top-speed", "--quiet", *options]
        if by == "tcpdump":
            with Tcpdump(lab.rx_ns, "rx0", tmp_path / "out.pcap") as tcpdump:
                sent = Replay(lab, arguments).wait()
                return sent, tcpdump.packets_once(len(frames), sum(map(len, frames)))
        recorder = record("--json", lab=lab)
        sent = Replay(lab, arguments).wait()
        result = recorder.stop()
        assert result.total["unaccounted"] == 0
        return sent, contents(result.files)

    return run


@pytest.mark.parametrize("by", ["tcpdump", "record"])
@pytest.mark.parametrize("mtu", MTUS)
def test_every_capture_arrives_byte_for_byte(manifest, make_lab, replayed, mtu, by):
    expected = Expected(mtu)
    for name in ethernet_files(manifest):
        packets, whole = readable(CAPTURES / name)
        if whole:
            expected.add(name, packets)
    assert len(expected.files) > 600 and len(expected.frames) > 25_000
    assert all(expected.skipped.values())
    # Read at once and while sending: what arrives is the same.
    memory = "--preload" if by == "record" else "--no-preload"
    sent, arrived = replayed(make_lab(mtu=mtu), by, expected, memory, "--frame-size", "4096")
    assert sent.returncode == 0, sent.stderr
    expected.check_report(sent.report)
    assert sent.report["damage"] == []
    expected.check_arrived(arrived)


@pytest.mark.parametrize("by", ["tcpdump", "record"])
def test_of_captures_that_break_off_what_stands_before_arrives(
    manifest, lab, replayed, tmp_path, by
):
    """Those of other projects, and every tenth whole one with its last bytes cut off."""
    expected = Expected(lab.mtu)
    for number, name in enumerate(ethernet_files(manifest)):
        path = CAPTURES / name
        packets, whole = readable(path)
        if whole and packets and number % 10 == 0:
            path = tmp_path / f"{number}-{path.name}"
            path.write_bytes((CAPTURES / name).read_bytes()[: -1 - number % 17])
            packets, whole = readable(path)
        if not whole:
            expected.add(str(path), packets)
    assert len(expected.files) > 60 and len(expected.frames) > 1000
    sent, arrived = replayed(lab, by, expected)
    assert sent.returncode == 1
    expected.check_report(sent.report)
    expected.check_arrived(arrived)
    damage = sent.report["damage"]
    assert [line.partition(":")[0] for line in damage] == expected.paths
    assert sent.stderr.splitlines()[-len(damage) :] == [f"xdpcap: {line}" for line in damage]


@pytest.mark.parametrize(("linktype", "words"), [(113, "LINUX_SLL"), (101, "--dst-mac")])
def test_what_has_no_ethernet_header_is_refused_before_anything_leaves(
    lab, tmp_path, linktype, words
):
    first, second = tmp_path / "first.pcap", tmp_path / "second.pcap"
    first.write_bytes(pcap(bytes(60)))
    second.write_bytes(pcap(bytes(60), linktype=linktype))
    sent = Replay(lab, [first, second, "--top-speed"]).wait()
    assert sent.returncode == 2 and sent.stdout == ""
    assert str(second) in sent.stderr and words in sent.stderr and sent.stderr.count("\n") == 1
    assert lab.statistics()["tx_packets"] == 0
