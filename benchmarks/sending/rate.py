"""Packets sent per second, counted at the interface in the same way for every sender.

The receiver is the kernel's own stack with GRO, which drops the packets, as their address is
unknown; it runs in a NAPI thread on the other CPU, so that the rate contains only the sender's
cost.  A veth whose receiver is too slow drops packets; those count as sent.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.child import Child
from benchmarks.measure import Cpus, turn_on_gro
from benchmarks.recorders import BenchmarkError, Place
from benchmarks.scratch import scratch
from benchmarks.sending.programs import Sender, write_capture
from benchmarks.sending.results import RateSample
from xdpcap.bench.lab.namespaces import in_netns
from xdpcap.bench.lab.pair import RX_NAME, Lab

# The warm-up from the first packet on, and the duration of the measurement after it.
WARM_S = 0.5
WINDOW_S = 2.5
START_TIMEOUT_S = 20.0
POLL_S = 0.02
MEMORY = Path("/dev/shm")


def measure_rate(sender: Sender, size: int, cpus: Cpus, number: int) -> RateSample:
    """The packets per second of one sender.  Raises BenchmarkError for an invalid run."""
    with scratch(MEMORY) as directory, Lab() as lab:
        write_capture(directory, size)
        _move_receiver(lab, cpus.recorder)
        place = Place(directory, cpus.sender)
        with Child(sender, lab.tx_ns, place, directory, pinned=not sender.pins_itself) as child:
            _wait_for_packets(lab, child)
            time.sleep(WARM_S)
            before, first, first_s = machine.snapshot(), left(lab), time.perf_counter()
            time.sleep(WINDOW_S)
            after, last, last_s = machine.snapshot(), left(lab), time.perf_counter()
            child.stop()
            check_count(sender, child, lab)
    return RateSample(
        row=sender.name,
        round=number,
        packets=last - first,
        seconds=last_s - first_s,
        machine=machine.activity(before, after, (os.getpid(), child.pid)),
    )


def left(lab: Lab) -> int:
    """The packets that the sender's interface has sent."""
    counts = lab.statistics()
    return counts["tx_packets"] + counts["tx_dropped"]


def check_count(sender: Sender, child: Child, lab: Lab) -> None:
    """Compare a sender's own count with the interface's.  Raises BenchmarkError."""
    reported, counted = sender.sent(child.stdout, child.stderr), left(lab)
    if reported is not None and reported != counted:
        raise BenchmarkError(f"{sender.name} reports {reported} packets, the interface {counted}")


def _wait_for_packets(lab: Lab, child: Child) -> None:
    child.wait_ready()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not left(lab):
        child.cpu_ns()  # raises if it has ended
        if time.monotonic() > deadline:
            raise BenchmarkError(f"no packet was sent after {START_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def _move_receiver(lab: Lab, cpu: int) -> None:
    """Run the receiver's NAPI in a thread on `cpu`; without GRO a veth has no NAPI."""
    in_netns(lab.rx_ns, turn_on_gro)
    # sysfs shows the namespace in which it was mounted: `ip netns exec` mounts a new one.
    knob = f"/sys/class/net/{RX_NAME}/threaded"
    argv = ["ip", "netns", "exec", lab.rx_ns, "sh", "-c", f"echo 1 > {knob}"]
    out = subprocess.run(argv, capture_output=True, text=True, check=False)
    threads = list(_napi_threads())
    if out.returncode != 0 or not threads:
        raise BenchmarkError(f"no NAPI thread (Linux 5.12): {out.stderr.strip()}")
    for pid in threads:
        os.sched_setaffinity(pid, {cpu})


def _napi_threads() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            name = Path(entry.path, "comm").read_text()
        except OSError:
            continue  # the thread ended meanwhile
        if name.startswith(f"napi/{RX_NAME}-"):
            yield int(entry.name)
