"""Extension types close what is theirs and nothing else, and not while a loop points into it."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
import time
from ipaddress import ip_network

import pytest
from extension_types import extension_types
from memory_mappings import assert_left_out_of_forks, kernels_own, mappings, new_since

from xdpcap.bench.simulated_rings import Simulation
from xdpcap.host.stage_times import StageTimes
from xdpcap.packets.edit.address_map import AddressMap
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.packet_reader import PacketReader
from xdpcap.savefile.sink import FileSink

DEADLINE_S = 20.0


TYPES = extension_types()

# Builds what can't be built: of up to three arguments each is None, of another kind, or a number
# that no sum of sizes takes.  Descriptor 77 is nobody's; memory ends at a gigabyte.
GARBAGE = """
import gc, importlib, itertools, os, resource, sys
from xdpcap.packets.packet_set import PacketSet
from xdpcap.savefile.sink import FileSink
module, name = sys.argv[1].split(":")
kind = getattr(importlib.import_module(module), name)
before = {number: os.fstat(number) for number in (0, 1, 2)}
values = [None, object(), "", "pcapng", b"", b"x" * 42, -1, 77, 1 << 31, (1 << 32) - 1, 1 << 62,
          1 << 63, (1 << 64) - 1, [], [(1, 2)], [[0, 1 << 40, 3 - (1 << 40)]],
          FileSink(1 << 16, 4, "discard"), PacketSet()]
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for count in range(4):
    for arguments in itertools.product(values, repeat=count):
        try:
            kind(*arguments)
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
    assert (result.returncode, result.stdout) == (0, "whole\n"), result.stderr
    assert "Exception ignored" not in result.stderr


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


class ShortList(list):
    """Says that it has one item, and has as many as it likes."""

    def __len__(self) -> int:
        return 1


NETWORK = ip_network("10.0.0.0/8")


# What wrote or read beside its memory.  Each runs in a process of its own.
BESIDE = {
    "a ring too small for a batch": "Simulation(SINK, [(64, bytes(42))], ring_size=8)",
    "frames without room": "Simulation(SINK, [(64, bytes(42))], ring_size=64, frame_size=64)",
    "rings of no power of two": "Simulation(SINK, [(64, bytes(42))], ring_size=100)",
    "blocks of more bytes than there are": "FileSink(1 << 62, 3, 'discard')",
    "areas of more bytes than there are": "Copier(1 << 63)",
    "times of more bytes than there are": "clock_times(0, 1 << 61)",
    "a run of negative length": "RecordedSides([[0, 100_000_000, -99_999_998]])",
    "a packet without a number": "FlowSides().add(PACKETS, (1 << 64) - 1)",
    "a plan of another set": "select(PACKETS, Plan(0), bytes(1), 0)",
    "an object without constants": "Generator(str(OBJECTS / 'record_legacy.bpf.o'), 1, bytes(60))",
    "a sink that is closed": "Workbench('pcapng', 64).record(CLOSED, 1)",
}
CONTEXT = """
from xdpcap.bench.lab.generator import Generator
from xdpcap.bench.pieces import Copier, Workbench, clock_times
from xdpcap.bench.simulated_rings import Simulation
from xdpcap.packets.client_server import RecordedSides
from xdpcap.packets.conversations import FlowSides
from xdpcap.packets.packet_set import PacketSet
from xdpcap.programs.builds import OBJECTS
from xdpcap.replay.plan import Plan, select
from xdpcap.savefile.sink import FileSink
SINK, CLOSED = (FileSink(1 << 16, 4, "discard") for _ in range(2))
PACKETS = PacketSet()
CLOSED.open_file(-1)
CLOSED.close()
PACKETS.append(bytes(60))
try:
    {expression}
except Exception as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("expression", BESIDE.values(), ids=BESIDE)
def test_sizes_that_do_not_fit_are_refused(expression):
    result = run(CONTEXT.format(expression=expression))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(r"(MemoryError|ValueError|UsageError|KernelError)\b", result.stdout)


def test_a_sequence_may_have_more_than_it_says():
    assert AddressMap(ShortList([(NETWORK, NETWORK)] * 1000))[bytes(4)] == bytes(4)
    sink = FileSink(1 << 16, 4, "discard")
    templates = ShortList([(64, bytes(42))] * 1000)
    Simulation(sink, templates, ring_size=64, frame_size=2048).close()
    sink.close()


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
    if kind is PacketReader:
        # Whose instructions the reader may be looking at.
        with pytest.raises(ValueError, match="pipe is being read in another thread"):
            reader.filter_by(Interpreter([(6, 0, 0, 0)]))
    if kind is BatchReader:
        with pytest.raises(ValueError, match="the packet set is in use by pipe; close that first"):
            packets.append(b"x" * 60)
        with pytest.raises(ValueError, match="the packet set is in use by pipe"):
            Rewriter(seed=1).apply(packets)
    os.close(writing)
    thread.join(DEADLINE_S)
    reader.close()
    packets.append(b"x" * 60)


def test_a_sink_can_not_be_closed_while_another_thread_flushes_it():
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 12)
    os.write(writing, bytes(room))
    sink = FileSink(1 << 16, 4, "stream")
    sink.open_file(writing)
    sink.append(bytes(64))
    thread = running(sink.flush)
    time.sleep(0.1)
    with pytest.raises(ValueError, match=r"the file sink is in use by flush\(\)"):
        sink.close()
    os.read(reading, room)
    thread.join(DEADLINE_S)
    sink.finish_file()
    sink.close()
    os.close(reading)
    os.close(writing)


def test_the_clocks_of_a_sink_are_not_replaced_under_its_loop():
    sink = FileSink(1 << 16, 4, "discard")
    sink.measure(StageTimes())
    with pytest.raises(ValueError, match="the sink is measured already"):
        sink.measure(StageTimes())
    sink.close()


def test_what_the_kernel_reads_of_a_sink_is_left_out_of_forks():
    before = mappings()
    sink = FileSink(1 << 16, 4, "direct")
    if sink.mode == "direct":
        assert len(kernels_own(before)) >= 2  # the io_uring's rings
    assert any(flags >= {"dc"} and not name for name, flags in new_since(before).values())
    assert_left_out_of_forks(before)
    sink.close()
    assert not new_since(before)
