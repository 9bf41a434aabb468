"""Timing accuracy: the gaps between packets at the receiver, compared with the planned gap.

The receiver's XDP program stamps each packet.  On a veth it runs on the sending CPU, right
after the packet was handed over, so the gaps contain none of the receiver's work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks import machine
from benchmarks.child import Child
from benchmarks.measure import Cpus
from benchmarks.recorders import BenchmarkError, Place, xdpcap
from benchmarks.scratch import scratch
from benchmarks.sending.programs import Sender, write_capture
from benchmarks.sending.rate import MEMORY, check_count
from benchmarks.sending.results import GapSample
from xdpcap.bench.lab.pair import Lab
from xdpcap.savefile.reader import read_packets

CLOCK = "clock loop"
SIZE = 60
# Five seconds of load, and at least enough packets for p99.9.
SECONDS, MOST_PACKETS = 5, 200_000


def packets_at(pps: int) -> int:
    """The number of packets to send at a rate."""
    return min(pps * SECONDS, MOST_PACKETS)


def measure_gaps(sender: Sender, pps: int, cpus: Cpus, number: int) -> GapSample:
    """The gap errors of one sender.  Raises BenchmarkError when packets are missing."""
    with scratch(MEMORY) as directory, Lab() as lab:
        files = directory / "files"
        files.mkdir()
        write_capture(directory, SIZE)
        recorder_place = Place(files, cpus.recorder)
        logs = directory / "recorder"
        logs.mkdir()
        with Child(xdpcap("pcap"), lab.rx_ns, recorder_place, logs) as recorder:
            recorder.wait_ready()
            place = Place(directory, cpus.sender)
            before = machine.snapshot()
            pinned = not sender.pins_itself
            with Child(sender, lab.tx_ns, place, directory, pinned=pinned) as child:
                child.finish()
                after = machine.snapshot()
                check_count(sender, child, lab)
            recorder.settle()
            recorder.stop()
        times = [
            packet.ts_ns or 0 for path in recorder_place.files for packet in read_packets(path)
        ]
    if len(times) != packets_at(pps):
        raise BenchmarkError(f"{len(times)} packets arrived of {packets_at(pps)}")
    activity = machine.activity(before, after, (os.getpid(), child.pid, recorder.pid))
    return _sample(sender.name, number, times, pps, activity)


def measure_clock(pps: int, cpus: Cpus, number: int) -> GapSample:
    """The gap errors of a loop that only reads the clock: the limit for every sender."""
    with scratch(MEMORY) as directory:
        file = directory / "times"
        argv = [sys.executable, "-m", "benchmarks.sending.clock_loop"]
        argv += [str(pps), str(packets_at(pps)), str(file)]
        before = machine.snapshot()
        subprocess.run(["taskset", "-c", str(cpus.sender), *argv], check=True)
        after = machine.snapshot()
        times = array("q", Path(file).read_bytes())
    return _sample(CLOCK, number, times, pps, machine.activity(before, after, (os.getpid(),)))


def _sample(
    row: str, number: int, times: Sequence[int], pps: int, activity: machine.Activity
) -> GapSample:
    planned = 1_000_000_000 / pps
    errors = sorted(abs(after - before - planned) for before, after in pairwise(times))

    def at(share: float) -> float:
        return errors[min(int(len(errors) * share), len(errors) - 1)]

    return GapSample(row, number, at(0.5), at(0.99), at(0.999), errors[-1], activity)
