"""Extension types close what is theirs and nothing else, and not while a loop points into it."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import xdpcap
from xdpcap.bench.simulated_rings import Simulation
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.packet_reader import PacketReader
from xdpcap.savefile.sink import FileSink

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0


def extension_types() -> list[str]:
    """Every cdef class of the package, as module:class."""
    found = []
    for module in pkgutil.walk_packages(xdpcap.__path__, "xdpcap."):
        source = ROOT / "ext" / Path(*module.name.split(".")).with_suffix(".pyx")
        if source.exists():
            names = re.findall(r"^cdef class (\w+)", source.read_text(), re.M)
            found += [f"{module.name}:{name}" for name in names]
    return sorted(found)


TYPES = extension_types()

# Builds what can't be built: no argument, None and things of other kinds, one to seven of them.
GARBAGE = """
import gc, importlib, os, sys
module, name = sys.argv[1].split(":")
kind = getattr(importlib.import_module(module), name)
before = {number: os.fstat(number) for number in (0, 1, 2)}
for count in range(8):
    for value in (None, object(), "", b"", -1, 0, 1, []):
        try:
            kind(*[value] * count)
        except Exception:
            pass
        gc.collect()
for number, status in before.items():
    assert os.path.samestat(os.fstat(number), status), f"descriptor {number} is another now"
print("whole")
"""


def run(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_the_extension_types_are_found():
    assert "xdpcap.rings.xsk:Xsk" in TYPES
    assert "xdpcap.record.capture:Capture" in TYPES
    assert len(TYPES) > 30


@pytest.mark.parametrize("kind", TYPES)
def test_an_object_that_could_not_be_made_closes_nothing_of_others(kind):
    result = run(GARBAGE, kind)
    assert (result.returncode, result.stdout, result.stderr) == (0, "whole\n", "")


NO_DESCRIPTORS = """
import os, resource
from xdpcap.host import kernel
from xdpcap.rings.copy_rings import CopyRing
from xdpcap.savefile.sink import FileSink
kernel.possible_cpu_count()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for make in (lambda: CopyRing(0, 4096), lambda: CopyRing(0, 4096, perf=True)):
    try:
        make()
    except Exception as exc:
        print(type(exc).__name__)
print(FileSink(4096, 2, "direct").mode)  # without io_uring it writes by pwrite()
[os.fstat(number) for number in (0, 1, 2)]
"""


def test_what_runs_out_of_descriptors_while_it_is_made_leaves_the_others_open():
    result = run(NO_DESCRIPTORS)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "KernelError\nKernelError\nsync\n"


# --- what is held


def simulation(sink: FileSink) -> Simulation:
    return Simulation(sink, [(64, bytes(42))], ring_size=64, frame_size=2048)


def running(target) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def eventually(condition) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_sink_can_not_be_closed_under_a_loop_and_neither_can_the_loop_itself():
    sink = FileSink(1 << 16, 4, "discard")
    loop = simulation(sink)
    sink.open_file(-1)
    thread = running(loop.run)
    eventually(lambda: loop.received > 1000)
    with pytest.raises(ValueError, match="the file sink is in use by the Simulation; close that"):
        sink.close()
    with pytest.raises(ValueError, match="the Simulation is running; request_stop"):
        loop.close()
    with pytest.raises(ValueError, match="the Simulation is running in another thread"):
        loop.run()
    loop.request_stop()
    thread.join(DEADLINE_S)
    loop.close()
    loop.close()
    with pytest.raises(ValueError, match="the Simulation is closed"):
        loop.run()
    sink.close()
    sink.close()


def test_a_loop_that_is_dropped_lets_go_of_what_it_held():
    sink = FileSink(1 << 16, 4, "discard")
    loop = simulation(sink)
    del loop
    sink.close()


def test_a_loop_that_could_not_be_made_holds_nothing():
    sink = FileSink(1 << 16, 4, "discard")
    with pytest.raises(Exception, match="no packets to simulate"):
        Simulation(sink, [], ring_size=64, frame_size=2048)
    sink.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda sink: sink.open_file(-1),
        lambda sink: sink.append(b"record"),
        lambda sink: sink.flush(),
        lambda sink: sink.finish_file(),
        lambda sink: sink.wait(0.1),
        lambda sink: sink.abandon(),
        simulation,
    ],
)
def test_a_closed_sink_is_refused_by_whatever_uses_it(use):
    sink = FileSink(1 << 16, 4, "discard")
    sink.close()
    with pytest.raises(ValueError, match="the file sink is closed"):
        use(sink)


@pytest.mark.parametrize("kind", [BatchReader, PacketReader])
def test_a_file_can_not_be_closed_while_another_thread_waits_for_it(kind):
    reading, writing = os.pipe()
    # Its header, and then nothing.
    os.write(writing, bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000"))
    reader = kind(reading, "pipe")
    packets = PacketSet()
    waits = (lambda: reader.read(packets)) if kind is BatchReader else lambda: reader.read(1)
    thread = running(waits)
    time.sleep(0.1)
    with pytest.raises(ValueError, match="pipe is being read in another thread"):
        reader.close()
    if kind is BatchReader:
        with pytest.raises(ValueError, match="the packet set is in use by pipe; close that first"):
            packets.append(b"x" * 60)
        with pytest.raises(ValueError, match="the packet set is in use by pipe"):
            Rewriter(seed=1).apply(packets)
    os.close(writing)
    thread.join(DEADLINE_S)
    reader.close()
    packets.append(b"x" * 60)


def vm_flags(address: int) -> set[str]:
    """The flags of the mapping at an address, as proc(5) names them."""
    found: set[str] = set()
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            found = set(line.split()[1:])
    return found


def mappings_not_copied() -> int:
    """How many mappings of this process a fork leaves out."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(line.startswith("VmFlags:") and "dc" in line.split() for line in lines)


def test_the_blocks_that_the_kernel_reads_are_not_shared_with_a_fork():
    before = mappings_not_copied()
    sink = FileSink(1 << 16, 4, "discard")
    assert mappings_not_copied() > before
    sink.close()
    assert mappings_not_copied() == before
