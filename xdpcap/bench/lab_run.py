"""Measure in a lab of its own: what this machine reaches without a NIC, and how near its limits.

Every figure stands beside a limit that was measured just before it on the same machine:
copying bytes, the bare loops of the rings, writing a file.  Commands run as processes, as
a user runs them.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdpcap.bench.lab import Lab, in_netns, sweep
from xdpcap.bench.lab.traffic import blast
from xdpcap.bench.pieces import Workbench
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.host import privileges
from xdpcap.host.threads import ThreadGroup
from xdpcap.options.bench_rings import idle_frame
from xdpcap.options.frame_sizes import DEFAULT_FRAME
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import MIB
from xdpcap.record.process import RecordingProcess
from xdpcap.savefile import headers

SIZES = (60, 1514)
FORMATS = ("pcapng", "pcap")
ENCODE_PACKETS = 200_000
WRITE_BYTES = 4 * MIB
# What one recording may write, and what must stay free behind it.
RECORD_BYTES_MOST = 1 << 30
SPARE_SHARE = 0.5
# Frames of the file that is replayed: they fit the UMEM.
REPLAY_PACKETS = 4000
PCAPNG_RECORD_BYTES = 76


@dataclass(frozen=True)
class LabBenchOptions:
    """`xdpcap bench lab`: seconds a figure, and a directory to record into."""

    directory: str
    duration_s: float = 2.0

    def validate(self) -> None:
        """Raise UsageError for what can't be measured."""
        if not 0.2 <= self.duration_s <= 60:
            raise UsageError(
                f"--duration {self.duration_s:g}: must be from 200ms to 1m a figure; use 2s"
            )
        if not os.path.isdir(self.directory):
            raise UsageError(f"-o {self.directory}: no such directory; name one to record into")


@dataclass(frozen=True)
class Figure:
    """One figure: `value` in `unit`, and what part of `limit`, another figure, it is.

    `more_is_better`: a rate; else it is a time, and 1 is as good as the limit all the same.
    """

    name: str
    value: float
    unit: str
    limit: str = ""
    ratio: float | None = None
    note: str = ""


Tell = Callable[[Figure], None]


def lab_bench_session(options: LabBenchOptions, tell: Tell) -> dict[str, Any]:
    """Measure everything, telling each figure as it comes; all of it as a dict."""
    options.validate()
    privileges.require(64 * MIB)
    privileges.raise_memlock()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise UsageError("one CPU to send and one to receive are needed; only one is allowed here")
    sweep()
    bench = _Bench(options, tell, sender=cpus[0], receiver=cpus[1])
    with _signals_as_exceptions():
        bench.run()
    return {"machine": machine(), "figures": [asdict(figure) for figure in bench.figures]}


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return {
        "cpu": found[1].strip() if found else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "driver": "veth",
        "mode": "native XDP, copy: a veth has no zero-copy",
    }


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Whatever ends this takes its lab, its processes and its files along."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _raise) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _raise(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


class _Bench:
    def __init__(self, options: LabBenchOptions, tell: Tell, sender: int, receiver: int) -> None:
        self.figures: list[Figure] = []
        self._options = options
        self._tell = tell
        self._sender, self._receiver = sender, receiver

    def run(self) -> None:
        """Parts, rings, then the commands against them."""
        for size in SIZES:
            self._encoding(size)
        for size in SIZES:
            wire = 64 if size == 60 else size
            drop = self._rx_drop(size, f"rx-drop, {wire} bytes")
            for directory, place in self._places():
                written = self._write(directory, place) if size > 60 else None
                self._record(size, directory, f"record to {place}, {wire} bytes", drop, written)
            sent = self._tx_only(size, f"tx-only, {wire} bytes")
            self._replay(size, f"replay --top-speed, {wire} bytes", sent)

    def _places(self) -> Iterator[tuple[str, str]]:
        if os.path.isdir("/dev/shm"):
            yield "/dev/shm", "memory"
        yield self._options.directory, "disk"

    def _add(self, name: str, value: float, unit: str, limit: Figure | None = None,
             note: str = "") -> Figure:  # fmt: skip
        ratio = None
        if limit is not None and limit.value and value:
            # Of a time, less is better: 1 is the limit either way.
            ratio = limit.value / value if unit == "ns" else value / limit.value
        figure = Figure(name, value, unit, limit.name if limit else "", ratio, note)
        self.figures.append(figure)
        self._tell(figure)
        return figure

    # -- on plain memory --------------------------------------------------------------------

    def _encoding(self, size: int) -> None:
        def nanoseconds(work: Callable[[int], object]) -> float:
            work(ENCODE_PACKETS)
            best = min(_timed(lambda: work(ENCODE_PACKETS)) for _ in range(5))
            return best * 1e9 / ENCODE_PACKETS

        bench = Workbench("pcapng", size)
        limit = self._add(f"memcpy, {size} bytes", nanoseconds(bench.copy), "ns")
        for kind in FORMATS:
            bench = Workbench(kind, size)
            self._add(f"encode {kind}, {size} bytes", nanoseconds(bench.encode), "ns", limit)

    def _write(self, directory: str, place: str) -> Figure:
        """The file system's own speed: blocks of 4 MiB, past the page cache on a disk."""
        size = self._room(directory)
        with tempfile.NamedTemporaryFile(prefix="xdpcap-bench-", dir=directory) as file:
            direct = os.O_DIRECT if place == "disk" else 0
            try:
                fd = os.open(file.name, os.O_WRONLY | direct)
            except OSError:
                fd = os.open(file.name, os.O_WRONLY)
            with mmap.mmap(-1, WRITE_BYTES) as block:
                block.write(b"\1" * WRITE_BYTES)
                offsets = range(0, size, WRITE_BYTES)
                try:
                    # Once more over the same place: memory that was never touched costs a
                    # virtual machine several times as much.
                    passes = [
                        _timed(lambda: [os.pwrite(fd, block, offset) for offset in offsets])
                        for _ in range(2)
                    ]
                finally:
                    os.close(fd)
        size_bytes = len(offsets) * WRITE_BYTES
        return self._add(f"write to {place}", size_bytes / min(passes) / 1e6, "MB/s")

    def _room(self, directory: str) -> int:
        free = int(shutil.disk_usage(directory).free * SPARE_SHARE)
        if free < 4 * WRITE_BYTES:
            raise XdpcapError(f"{directory}: no room to record into; name another with -o")
        return min(free, RECORD_BYTES_MOST)

    # -- rings and commands -------------------------------------------------------------------

    def _rx_drop(self, size: int, name: str) -> Figure:
        with Lab() as lab, self._blasting(lab, size):
            # Rings as the recorder has them.
            options = RecordOptions(("rx0",), output="")
            words = ("--ring-size", str(options.ring_size_for(DEFAULT_FRAME)), "--batch",
                       str(options.batch))  # fmt: skip
            report = self._bench("rx-drop", lab, lab.rx_ns, "rx0", self._receiver, *words)
        return self._add(name, report["pps"] / 1e6, "Mpps", note=_lost(report["packets"], report))

    def _tx_only(self, size: int, name: str) -> Figure:
        with Lab() as lab:
            words = ("--packet-size", str(size))
            report = self._bench("tx-only", lab, lab.tx_ns, "tx0", self._sender, *words)
        return self._add(name, report["pps"] / 1e6, "Mpps")

    def _bench(
        self, mode: str, lab: Lab, netns: str, interface: str, cpu: int, *words: str
    ) -> dict[str, Any]:
        arguments = ["bench", mode, "-i", interface, "--json", "--quiet", "--cpus", str(cpu)]
        duration = f"{self._options.duration_s:g}s"
        out = in_netns(netns, _finished, [*arguments, "--duration", duration, *words])
        report: dict[str, Any] = json.loads(out)
        return report

    def _blasting(self, lab: Lab, size: int) -> _Blaster:
        return _Blaster(lab, size, self._sender)

    def _record(
        self, size: int, directory: str, name: str, drop: Figure, written: Figure | None
    ) -> None:
        record_bytes = -(-size // 4) * 4 + PCAPNG_RECORD_BYTES
        fits = self._room(directory) // record_bytes
        count = min(int(drop.value * 1e6 * self._options.duration_s), fits)
        with (
            tempfile.TemporaryDirectory(prefix="xdpcap-bench-", dir=directory) as files,
            Lab() as lab,
        ):
            recorder = in_netns(
                lab.rx_ns,
                RecordingProcess,
                ["-i", "rx0", "-o", files, "--cpus", str(self._receiver)],
            )
            try:
                _wait_ready(recorder)
                seconds = _timed(lambda: in_netns(lab.tx_ns, _pinned_blast, lab, count, size,
                                                  self._sender))  # fmt: skip
                total = _stopped(recorder)
            finally:
                recorder.close()
        kept = total["written"]
        note = _lost(count, {"lost": count - kept})
        self._add(name, kept / seconds / 1e6, "Mpps", drop, note)
        if written is not None:
            rate = kept * record_bytes / seconds / 1e6
            self._add(f"{name}, to its files", rate, "MB/s", written)

    def _replay(self, size: int, name: str, sent: Figure) -> None:
        with tempfile.TemporaryDirectory(prefix="xdpcap-bench-") as files, Lab() as lab:
            path = Path(files, "in.pcap")
            path.write_bytes(_capture(size))
            arguments = ["replay", str(path), "-i", "tx0", "--top-speed", "--loop", "0", "--json",
                         "--quiet", "--duration", f"{self._options.duration_s:g}s",
                         "--cpus", str(self._sender)]  # fmt: skip
            report = json.loads(in_netns(lab.tx_ns, _finished, arguments))
        self._add(name, report["pps"] / 1e6, "Mpps", sent)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _lost(count: int, report: dict[str, Any]) -> str:
    lost = report.get("lost", report.get("rx_dropped", 0) + report.get("rx_ring_full", 0))
    return f"{lost / max(count + (0 if 'lost' in report else lost), 1):.1%} lost" if lost else ""


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "xdpcap", *arguments]


def _finished(arguments: list[str]) -> str:
    done = subprocess.run(_command(arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise XdpcapError(f"xdpcap {arguments[0]}: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1].removeprefix("xdpcap: ") if lines else "it ended without a word"


def _wait_ready(recorder: RecordingProcess) -> None:
    try:
        recorder.wait_ready()
    except XdpcapError as exc:
        raise XdpcapError(f"xdpcap record: {exc}") from None


def _stopped(recorder: RecordingProcess) -> dict[str, Any]:
    """The totals of its ledger, once it has ended well."""
    report = recorder.stop()
    if recorder.failure is not None:
        raise XdpcapError(f"xdpcap record: {recorder.failure}")
    total: dict[str, Any] = report["total"]
    return total


def _pinned_blast(lab: Lab, count: int, size: int, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    blast(lab, count, size)


def _capture(size: int) -> bytes:
    stamp = (0).to_bytes(4, "little") * 2 + size.to_bytes(4, "little") * 2
    return headers.pcap_header(0) + (stamp + idle_frame(size)) * REPLAY_PACKETS


class _Blaster:
    """Frames at full rate from one CPU until it is left; a context manager."""

    BURST = 1_000_000
    # A burst is sent to its end, slow as the machine may be.
    BURST_S = 60.0

    def __init__(self, lab: Lab, size: int, cpu: int) -> None:
        self._stop = threading.Event()
        self._failure: str | None = None
        self._threads = ThreadGroup()
        self._threads.add(
            "traffic", lambda: self._main(lab, size, cpu), stop=self._stop.set, failed=self._fail
        )

    def _main(self, lab: Lab, size: int, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        while not self._stop.is_set():
            blast(lab, self.BURST, size)

    def _fail(self, text: str) -> None:
        self._failure = text

    def __enter__(self) -> _Blaster:
        self._threads.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.close(self.BURST_S)
        if self._failure is not None:
            raise XdpcapError(f"the traffic broke off: {self._failure}")
