"""How many packets a second leave: counted at the interface, the same way for every sender.

The receiver is the kernel's own stack behind GRO, which knows no such address and lets the
packets go; it works in a NAPI thread on the other CPU, so that what a sender reaches is its
own price and not the receiver's.  A veth whose receiver is behind drops; what was dropped
has been sent.
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

# From the first packet on until everything is in its stride, and how long is counted then.
WARM_S = 0.5
WINDOW_S = 2.5
START_TIMEOUT_S = 20.0
LOOK_S = 0.02
MEMORY = Path("/dev/shm")


def measure_rate(sender: Sender, size: int, cpus: Cpus, number: int) -> RateSample:
    """Packets a second of one sender.  Raises BenchmarkError for a run that means nothing."""
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
    """Packets that have left the sender's interface."""
    counts = lab.statistics()
    return counts["tx_packets"] + counts["tx_dropped"]


def check_count(sender: Sender, child: Child, lab: Lab) -> None:
    """Hold a sender's own count against the interface's.  Raises BenchmarkError."""
    said, counted = sender.sent(child.stdout, child.stderr), left(lab)
    if said is not None and said != counted:
        raise BenchmarkError(f"{sender.name} says {said} packets, the interface {counted}")


def _wait_for_packets(lab: Lab, child: Child) -> None:
    child.wait_ready()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not left(lab):
        child.cpu_ns()  # raises when it has ended
        if time.monotonic() > deadline:
            raise BenchmarkError(f"nothing has left after {START_TIMEOUT_S:g} s")
        time.sleep(LOOK_S)


def _move_receiver(lab: Lab, cpu: int) -> None:
    """Let the receiver's NAPI run in a thread on `cpu`; without GRO a veth has no NAPI."""
    in_netns(lab.rx_ns, turn_on_gro)
    # sysfs shows the namespace in which it was mounted: `ip netns exec` mounts it anew.
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
            continue  # it has ended meanwhile
        if name.startswith(f"napi/{RX_NAME}-"):
            yield int(entry.name)
