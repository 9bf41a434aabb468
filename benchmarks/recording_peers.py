"""The other recorders, with the best settings found and the same buffer memory.

They read packet sockets, which receive only skbs: the receiver has no program and GRO on.
All three map a TPACKET_V3 ring of 64 MiB.  They record whole packets, with nanosecond times
where the tool has them, run as root so that no file changes its owner, and print nothing per
packet.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

from benchmarks.recorders import BenchmarkError, Outcome, Place, Recorder, count_packets
from xdpcap.bench.lab.pair import RX_NAME

# The recorder's own default (RecordOptions.umem_size_bytes), in MiB.
BUFFER_MIB = 64

PACKAGES = {
    "tcpdump": "tcpdump",
    "dumpcap": "wireshark-common",
    "netsniff-ng": "netsniff-ng",
    "capinfos": "wireshark-common",
    "fio": "fio",
    "tcpreplay": "tcpreplay",
}


def peers() -> list[Recorder]:
    """All peers, installed or not."""
    return [_tcpdump(), _dumpcap(), _netsniff_ng()]


def missing(programs: list[str]) -> list[str]:
    """The Debian packages of the programs that are not installed."""
    return sorted({PACKAGES[name] for name in programs if shutil.which(name) is None})


def _tcpdump() -> Recorder:
    def argv(place: Place) -> list[str]:
        return [
            *("tcpdump", "-i", RX_NAME, "-n", "-Z", "root", "-w", str(place.directory / "peer")),
            *("-B", str(BUFFER_MIB * 1024), "--time-stamp-precision", "nano"),
        ]

    captured, dropped = r"^(\d+) packets? captured", r"^(\d+) packets? dropped by kernel"
    return _peer("tcpdump", argv, "listening on", captured, dropped)


def _dumpcap() -> Recorder:
    def argv(place: Place) -> list[str]:
        return ["dumpcap", "-i", RX_NAME, "-w", str(place.directory / "peer"), "-q",
                "-B", str(BUFFER_MIB)]  # fmt: skip

    captured = r"^Packets captured: (\d+)"
    dropped = r"^Packets received/dropped on interface .*: \d+/(\d+)"
    return _peer("dumpcap", argv, "Capturing on", captured, dropped)


def _netsniff_ng() -> Recorder:
    def argv(place: Place) -> list[str]:
        # A mapped file is its fastest way to write: half the CPU time of the default, and fewer
        # losses on a disk. Nanosecond pcap; no change to the host's socket buffer limits.
        return [
            *("netsniff-ng", "--in", RX_NAME, "--out", str(place.directory / "peer.pcap")),
            *("--ring-size", f"{BUFFER_MIB}MiB", "--mmap", "--silent", "--magic", "0xa1b23c4d"),
            *("--no-sock-mem", "--no-hwtimestamp", "--bind-cpu", str(place.cpu)),
        ]

    passed, failed = r"^\s*(\d+)\s+packets passed filter", r"^\s*(\d+)\s+packets failed filter"
    return _peer("netsniff-ng", argv, "Running!", passed, failed)


def _peer(
    program: str, argv: Callable[[Place], list[str]], ready: str, captured: str, dropped: str
) -> Recorder:
    """A recorder whose own figures match the patterns `captured` and `dropped`."""

    def read(place: Place, stdout: str, stderr: str) -> Outcome:
        output = stdout + stderr
        kept = count_packets(place.files)
        if kept == 0:
            raise BenchmarkError("it received nothing; is GRO on at the receiver?")
        report = {"captured": _figure(captured, output), "dropped": _figure(dropped, output)}
        return Outcome(kept, report)

    return Recorder(program, argv, ready, read, skb=True, program=program)


def _figure(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text, re.MULTILINE)
    return int(match[1]) if match else None
