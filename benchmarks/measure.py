"""One measurement: a fresh lab, one recorder, a number of frames at full rate."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import Ethtool

from benchmarks import machine
from benchmarks.child import Child
from benchmarks.machine import Activity
from benchmarks.memory import touch
from benchmarks.recorders import BenchmarkError, Place, Recorder
from benchmarks.scratch import scratch
from xdpcap.bench.lab.frames import NUMBER_OFFSET, blasted_frame
from xdpcap.bench.lab.generator import Generator
from xdpcap.bench.lab.namespaces import in_netns
from xdpcap.bench.lab.pair import RX_NAME, TX_IFINDEX, Lab
from xdpcap.bench.lab.traffic import GENERATOR

# An Enhanced Packet Block as the recorder writes it: header, options, a hash, both lengths.
PCAPNG_RECORD_BYTES = 76


@dataclass(frozen=True)
class Scenario:
    """A load and a place for the files.

    `size`: bytes a frame without FCS; `memory`: whether `directory` is a memory file
    system; `memory_directory`: one that always is, to warm memory in.
    """

    name: str
    size: int
    count: int
    memory: bool
    directory: Path
    memory_directory: Path

    @property
    def record_bytes(self) -> int:
        """The bytes of one packet in the recorder's pcapng file."""
        return -(-self.size // 4) * 4 + PCAPNG_RECORD_BYTES

    @property
    def file_bytes(self) -> int:
        """The bytes of a recording without loss."""
        return self.count * self.record_bytes


@dataclass(frozen=True)
class Cpus:
    """The CPUs of sender and recorder."""

    sender: int
    recorder: int


@dataclass(frozen=True)
class Task:
    """The parameters that the measurements of a round share."""

    scenario: Scenario
    cpus: Cpus
    round: int


@dataclass
class Sample:
    """One measurement of one row.  Times in seconds, sizes in bytes.

    `arrived`: packets that reached the receiver's interface; `kept`: packets in the
    files (drop loop: received); `send_s`: duration of sending (fio: of writing);
    `file_bytes`: length of the files when the last frame was sent; `recorder_cpu_s`: from
    before the load until the recorder was idle; `life_cpu_s`: including start and end;
    `reference_pps`: the mean of the drop loop's rates just before and after.
    """

    row: str
    round: int
    sent: int
    arrived: int
    kept: int
    send_s: float
    file_bytes: int
    recorder_cpu_s: float
    life_cpu_s: float
    machine: Activity
    report: dict[str, Any] = field(default_factory=dict)
    reference_pps: float = 0.0

    @property
    def pps(self) -> float:
        """Packets recorded per second."""
        return self.kept / self.send_s

    @property
    def lost(self) -> int:
        """Packets that were sent but are in no file."""
        return self.sent - self.kept

    @property
    def cpu_ns(self) -> float:
        """The recorder's CPU time per recorded packet."""
        return self.recorder_cpu_s * 1e9 / max(self.kept, 1)

    @property
    def machine_ns(self) -> float:
        """The whole machine's CPU time per recorded packet."""
        return self.machine.busy_s * 1e9 / max(self.kept, 1)

    @property
    def file_rate(self) -> float:
        """Bytes per second written to the files."""
        return self.file_bytes / self.send_s

    def as_dict(self) -> dict[str, Any]:
        """The sample for the JSON report."""
        return asdict(self)


def measure(recorder: Recorder, task: Task) -> Sample:
    """Record one load.  Raises BenchmarkError for an invalid run."""
    with scratch(task.scenario.directory) as directory, Lab() as lab:
        return _measure(recorder, task, directory, lab)


def _measure(recorder: Recorder, task: Task, directory: Path, lab: Lab) -> Sample:
    scenario, cpus = task.scenario, task.cpus
    place = Place(directory / "files", cpus.recorder)
    place.directory.mkdir()
    if recorder.skb:
        # Without a program a veth accepts XDP frames only with GRO.
        in_netns(lab.rx_ns, turn_on_gro)
    # Write back the dirty pages of the previous run now, not during this one.
    os.sync()
    touch(scenario.memory_directory, scenario.file_bytes)
    with Child(recorder, lab.rx_ns, place, directory) as child:
        child.wait_ready()
        cpu_ns, before = child.cpu_ns(), machine.snapshot()
        send_s = in_netns(lab.tx_ns, _send, scenario, cpus.sender)
        file_bytes = place.written_bytes
        child.settle()
        if not scenario.memory:
            # Writing the files back to the disk counts as the machine's CPU time too.
            os.sync()
        used_ns, after = child.cpu_ns() - cpu_ns, machine.snapshot()
        arrived = lab.statistics()["rx_packets"]
        life_cpu_s = child.stop()
        outcome = recorder.read(place, child.stdout, child.stderr)
    if outcome.kept > scenario.count:
        raise BenchmarkError(f"{outcome.kept} packets recorded of {scenario.count} sent")
    return Sample(
        row=recorder.name,
        round=task.round,
        sent=scenario.count,
        arrived=arrived,
        kept=outcome.kept,
        send_s=send_s,
        file_bytes=file_bytes,
        recorder_cpu_s=used_ns / 1e9,
        life_cpu_s=life_cpu_s,
        machine=machine.activity(before, after, (os.getpid(), child.pid)),
        report=outcome.report,
    )


def _send(scenario: Scenario, cpu: int) -> float:
    """Send the scenario's frames from this thread; returns the duration in seconds."""
    os.sched_setaffinity(0, {cpu})
    template = blasted_frame(scenario.size, 0)
    with Generator(str(GENERATOR), TX_IFINDEX, template, number_offset=NUMBER_OFFSET) as generator:
        started = time.perf_counter()
        generator.send(scenario.count)
        return time.perf_counter() - started


def turn_on_gro() -> None:
    """Turn on GRO at the receiver, in this thread's namespace.  Raises BenchmarkError."""
    with Ethtool() as ethtool:
        features = ethtool.get_features(RX_NAME)
        features.features["rx-gro"].enable = True
        ethtool.set_features(RX_NAME, features)
        if not ethtool.get_features(RX_NAME).features["rx-gro"].enable:
            raise BenchmarkError(f"GRO can't be turned on at {RX_NAME}")
