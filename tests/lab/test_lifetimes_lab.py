"""close() of a socket, a UMEM, a sink or rings under a loop is an error that names the loop."""

from __future__ import annotations

import errno
import gc
import importlib
import itertools
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from extension_types import extension_types
from memory_mappings import assert_left_out_of_forks, kernels_own, mappings, new_since

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.generator import Generator
from xdpcap.bench.ring_loop import RingLoop
from xdpcap.bench.simulated_rings import Simulation
from xdpcap.errors import KernelError
from xdpcap.inspect.live_rings import LiveRings
from xdpcap.packets.packet_set import PacketSet
from xdpcap.programs.builds import OBJECTS, bare_variant, nic_variant, variants
from xdpcap.programs.libxdp_dispatcher import DispatchedProgram
from xdpcap.programs.nic_program import NicProgram
from xdpcap.programs.program import Program
from xdpcap.record.capture import Capture
from xdpcap.replay.plan import Plan, divide
from xdpcap.replay.transmitter import Transmitter
from xdpcap.rings.copy_rings import CopyRing
from xdpcap.rings.tx_metadata import MetadataUmem, MetadataXsk
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk
from xdpcap.savefile.batch_reader import BatchReader
from xdpcap.savefile.packet_reader import PacketReader
from xdpcap.savefile.sink import FileSink

DEADLINE_S = 20.0
SIZE = 1 << 20
FRAMES = SIZE // 2048


@contextmanager
def socket(lab: Lab, **options: Any) -> Iterator[tuple[Umem, Xsk]]:
    """A UMEM with every frame in its fill ring, and a socket on rx0."""

    def make() -> tuple[Umem, Xsk]:
        umem = Umem(SIZE, fill_size=FRAMES, completion_size=FRAMES)
        return umem, Xsk(umem, "rx0", 0, **options)

    umem, xsk = in_netns(lab.rx_ns, make)
    yield umem, xsk
    xsk.close()
    umem.close()


def transmitter(xsk: Xsk) -> Transmitter:
    packets = PacketSet()
    for _ in range(8):
        packets.append(bytes(60))
    loop = Transmitter(xsk)
    [order] = divide(packets, 1)
    assert loop.load(packets, order)
    return loop


def capture(xsk: Xsk) -> Capture:
    xsk.umem.populate_fill()
    sink = FileSink(1 << 16, 4, "discard")
    sink.open_file(-1)
    return Capture(xsk, sink)


# How each loop on a socket is made, the rings that it wants, how it runs, and its name.
LOOPS: dict[str, tuple[Callable[[Xsk], Any], dict[str, int], str, str]] = {
    "record": (capture, {"rx_size": FRAMES}, "run", "the Capture of rx0 queue 0"),
    "drop": (capture, {"rx_size": FRAMES}, "run_drop", "the Capture of rx0 queue 0"),
    "send": (
        transmitter,
        {"rx_size": 0, "tx_size": 64},
        "run_bare",
        "the Transmitter of rx0 queue 0",
    ),
    "rx-drop": (
        lambda xsk: RingLoop(xsk, "rx-drop"),
        {"rx_size": FRAMES},
        "run",
        "the rx-drop loop of rx0 queue 0",
    ),
    "tx-only": (
        lambda xsk: RingLoop(xsk, "tx-only", frame=bytes(60)),
        {"rx_size": 0, "tx_size": 64},
        "run",
        "the tx-only loop of rx0 queue 0",
    ),
    "l2fwd": (
        lambda xsk: RingLoop(xsk, "l2fwd"),
        {"rx_size": FRAMES, "tx_size": FRAMES},
        "run",
        "the l2fwd loop of rx0 queue 0",
    ),
}


@pytest.fixture(params=LOOPS)
def looping(request, lab) -> Iterator[tuple[Umem, Xsk, Any, str, str]]:
    """A loop that has been made on a socket and does not run yet."""
    make, options, method, name = LOOPS[request.param]
    with socket(lab, **options) as (umem, xsk):
        loop = make(xsk)
        yield umem, xsk, loop, method, name
        loop.close()


def test_nothing_that_a_running_loop_uses_can_be_closed(looping):
    umem, xsk, loop, method, name = looping
    thread = threading.Thread(target=getattr(loop, method), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    with pytest.raises(ValueError, match=f"the socket of rx0 queue 0 is in use by {name}"):
        xsk.close()
    with pytest.raises(ValueError, match="the UMEM is in use by the socket of rx0 queue 0"):
        umem.close()
    with pytest.raises(ValueError, match=f"{name} is running; request_stop"):
        loop.close()
    with pytest.raises(ValueError, match=f"{name} is running in another thread"):
        getattr(loop, method)()
    loop.request_stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_a_loop_that_does_not_run_holds_its_socket_until_it_is_closed(looping):
    _, xsk, loop, method, name = looping
    with pytest.raises(ValueError, match=f"in use by {name}; close that first"):
        xsk.close()
    loop.close()
    loop.close()
    with pytest.raises(ValueError, match=f"{name} is closed"):
        getattr(loop, method)()
    xsk.close()


def test_a_loop_that_is_dropped_lets_go_of_its_socket(lab):
    for make, options, _, _ in LOOPS.values():
        with socket(lab, **options) as (_, xsk):
            make(xsk)


def test_a_capture_whose_socket_is_asked_to_close_still_tells_what_waits(lab):
    with socket(lab, rx_size=FRAMES) as (umem, xsk):
        sink = FileSink(1 << 16, 4, "discard")
        loop = Capture(xsk, sink)
        for held in (xsk, umem, sink):
            with pytest.raises(ValueError, match="in use by"):
                held.close()
        assert loop.waiting == 0
        loop.close()
        with pytest.raises(ValueError, match="the Capture of rx0 queue 0 is closed"):
            _ = loop.waiting
        sink.close()


def test_the_rings_of_a_umem_are_gone_with_its_socket(lab):
    with socket(lab, rx_size=FRAMES) as (umem, xsk):
        xsk.close()
        with pytest.raises(ValueError, match="the UMEM's socket is closed, and its rings with it"):
            umem.populate_fill()


@pytest.mark.parametrize("name", LOOPS)
def test_a_closed_socket_is_refused_by_every_loop(lab, name):
    make, options, _, _ = LOOPS[name]
    with socket(lab, **options) as (_, xsk):
        xsk.close()
        with pytest.raises(ValueError, match="is closed"):
            make(xsk)


def test_a_socket_can_not_be_closed_while_another_thread_receives(lab):
    with socket(lab, rx_size=FRAMES) as (umem, xsk):
        umem.populate_fill()
        thread = threading.Thread(target=lambda: xsk.receive(64, 1000), daemon=True)
        thread.start()
        time.sleep(0.1)
        with pytest.raises(ValueError, match=r"the socket of rx0 queue 0 is in use by receive\(\)"):
            xsk.close()
        thread.join(DEADLINE_S)


def test_a_socket_can_not_be_closed_by_the_packets_that_it_is_to_send(lab):
    with socket(lab, rx_size=0, tx_size=64) as (_, xsk):

        def packets() -> Iterator[bytes]:
            yield bytes(60)
            xsk.close()

        with pytest.raises(ValueError, match=r"is in use by send\(\)"):
            xsk.send(packets())


@pytest.mark.parametrize(
    "use",
    [
        lambda xsk: xsk.receive(1),
        lambda xsk: xsk.send([bytes(60)]),
        lambda xsk: xsk.statistics(),
        lambda xsk: xsk.wake(),
        lambda xsk: xsk.set_busy_poll(),
    ],
)
def test_a_closed_socket_says_so(lab, use):
    with socket(lab, rx_size=FRAMES, tx_size=64) as (_, xsk):
        xsk.close()
        with pytest.raises(ValueError, match="the socket is closed"):
            use(xsk)


@pytest.mark.parametrize("perf", [False, True])
def test_rings_of_copies_can_not_be_closed_under_what_reads_them(lab, perf):
    ring = CopyRing(0, 1 << 16, perf=perf)
    sink = FileSink(1 << 16, 4, "discard")
    loop = Capture(ring, sink)
    with pytest.raises(ValueError, match="queue 0's rings of copies is in use by the Capture of"):
        ring.close()
    loop.close()
    look = LiveRings([ring], "monotonic")
    with pytest.raises(ValueError, match="in use by the view of live packets"):
        ring.close()
    look.close()
    ring.close()
    for make in (lambda: Capture(ring, sink), lambda: LiveRings([ring], "monotonic")):
        with pytest.raises(ValueError, match="the rings of copies are closed"):
            make()
    sink.close()


def test_packets_that_are_being_sent_can_not_be_changed(lab):
    with socket(lab, rx_size=0, tx_size=64) as (_, xsk):
        packets = PacketSet()
        packets.append(bytes(60))
        [order] = divide(packets, 1)
        loop = Transmitter(xsk)
        loop.load(packets, order, place=False)
        for change in (packets.clear, lambda: packets.append(bytes(60))):
            with pytest.raises(ValueError, match="the packet set is in use by the Transmitter of"):
                change()
        loop.close()
        packets.clear()


def test_a_umem_can_not_be_closed_while_a_socket_waits_for_its_queue(lab):
    with socket(lab, rx_size=FRAMES):
        umem = in_netns(lab.rx_ns, some_umem)
        refused = []

        def bind() -> None:
            try:
                in_netns(lab.rx_ns, Xsk, umem, "rx0", 0)
            except KernelError as exc:
                refused.append(exc.errno)

        thread = threading.Thread(target=bind, daemon=True)
        thread.start()
        time.sleep(0.3)
        with pytest.raises(ValueError, match="UMEM is in use by the socket of rx0 queue 0"):
            umem.close()
        with pytest.raises(ValueError, match="a UMEM serves one socket in its life"):
            Xsk(umem, "rx0", 0)
        thread.join(DEADLINE_S)
        assert refused == [errno.EBUSY]
        umem.close()


def test_order_and_plan_of_another_set_are_not_sent(lab):
    with socket(lab, rx_size=0, tx_size=64) as (_, xsk):
        packets, larger = PacketSet(), PacketSet()
        packets.append(bytes(60))
        for _ in range(1000):
            larger.append(bytes(60))
        [order] = divide(packets, 1)
        loop = Transmitter(xsk)
        with pytest.raises(ValueError, match="the order is of another set"):
            loop.load(packets, divide(larger, 1)[0])
        with pytest.raises(ValueError, match="the plan is of another set"):
            loop.load(larger, order, Plan(1))
        larger.clear()
        loop.close()


# --- of every kind


def bound(
    lab: Lab, stack: ExitStack, memory: Callable[[], Umem], kind: type[Xsk], **options: Any
) -> Xsk:
    umem = in_netns(lab.rx_ns, memory)  # whose socket it is that will be bound
    stack.callback(umem.close)
    xsk = in_netns(lab.rx_ns, lambda: kind(umem, "rx0", 0, **options))
    stack.callback(xsk.close)
    return xsk


def some_umem() -> Umem:
    return Umem(SIZE, fill_size=FRAMES, completion_size=FRAMES)


def some_sink(stack: ExitStack, mode: str = "discard") -> FileSink:
    sink = FileSink(1 << 16, 4, mode)
    stack.callback(sink.close)
    return sink


def some_ring(stack: ExitStack, **options: Any) -> CopyRing:
    ring = CopyRing(0, 1 << 16, **options)
    stack.callback(ring.close)
    return ring


def some_packets() -> int:
    """A descriptor of a file with an Ethernet header and no packet."""
    file = os.memfd_create("packets")
    os.write(file, bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000"))
    os.lseek(file, 0, os.SEEK_SET)
    return file


def both_rings(lab: Lab, stack: ExitStack) -> Xsk:
    return bound(lab, stack, some_umem, Xsk, rx_size=FRAMES, tx_size=FRAMES)


# How an object of each kind that is to be closed is made, in a lab.
MAKERS: dict[str, Callable[[Lab, ExitStack], Any]] = {
    "Umem": lambda lab, stack: some_umem(),
    "Xsk": both_rings,
    "MetadataUmem": lambda lab, stack: MetadataUmem(SIZE, fill_size=64, completion_size=64),
    "MetadataXsk": lambda lab, stack: bound(
        lab, stack, lambda: MetadataUmem(SIZE), MetadataXsk, rx_size=0, tx_size=64
    ),
    "CopyRing": lambda lab, stack: some_ring(stack),
    "perf CopyRing": lambda lab, stack: some_ring(stack, perf=True),
    "FileSink": lambda lab, stack: some_sink(stack, "direct"),
    "Capture": lambda lab, stack: Capture(both_rings(lab, stack), some_sink(stack)),
    "Capture of copies": lambda lab, stack: Capture(some_ring(stack), some_sink(stack)),
    "Transmitter": lambda lab, stack: Transmitter(both_rings(lab, stack)),
    "RingLoop": lambda lab, stack: RingLoop(both_rings(lab, stack), "l2fwd"),
    "LiveRings": lambda lab, stack: LiveRings([some_ring(stack)], "monotonic"),
    "Simulation": lambda lab, stack: Simulation(
        some_sink(stack), [(64, bytes(42))], ring_size=64, frame_size=2048
    ),
    "BatchReader": lambda lab, stack: BatchReader(some_packets(), "packets"),
    "PacketReader": lambda lab, stack: PacketReader(some_packets(), "packets"),
    "Program": lambda lab, stack: Program(next(variants()).path, 1),
    "NicProgram": lambda lab, stack: NicProgram(nic_variant().path, name=nic_variant().program),
    "DispatchedProgram": lambda lab, stack: DispatchedProgram(bare_variant(False).path, 1),
    "Generator": lambda lab, stack: Generator(str(OBJECTS / "generator.bpf.o"), 1, bytes(60)),
}
# Attaching to programs is not for every kernel: test_xdp_hook.py closes it.
ELSEWHERE = {"Observer"}


def in_child(code: Callable[[], None]) -> int:
    """What a fork of this process that runs `code` ends with: 0, or the signal as -number."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            code()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_every_extension_type_that_can_be_closed_is_tried():
    found = {
        name
        for kind in extension_types()
        for module, name in [kind.split(":")]
        if hasattr(getattr(importlib.import_module(module), name), "close")
    }
    tried = {type_of.split()[-1] for type_of in MAKERS if not type_of.endswith("copies")}
    assert found == tried | ELSEWHERE


GIVEN = (None, 0, 1, b"x" * 60, "native", [b"x" * 60], PacketSet())


@pytest.mark.parametrize("kind", MAKERS)
def test_whatever_is_asked_of_a_closed_object_ends_in_an_answer_or_an_exception(lab, kind):
    def use() -> None:
        with ExitStack() as stack:
            it = MAKERS[kind](lab, stack)
            it.close()
            it.close()
            for name in dir(it):
                if name.startswith("_"):
                    continue
                for count in range(4):
                    for arguments in itertools.product(GIVEN, repeat=count):
                        with suppress(Exception):
                            member = getattr(it, name)
                            if callable(member):
                                member(*arguments)

    assert in_child(use) == 0


@pytest.mark.parametrize("kind", MAKERS)
def test_what_runs_out_of_descriptors_half_made_closes_its_own_and_no_other(lab, kind):
    """With room for none, for one, for two more: until it is made."""

    def use() -> None:
        with ExitStack() as stack:
            MAKERS[kind](lab, stack).close()  # what is read once has been read
        gc.collect()
        before = descriptors()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(40):
            # The highest one in use, not how many there are, counts.
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + room, most[1]))
            made = False
            with suppress(Exception), ExitStack() as stack:
                it = MAKERS[kind](lab, stack)
                made = True
                it.close()
            gc.collect()
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
            assert descriptors() == before, room
            if made and room > 4:
                return
        raise AssertionError("never made")

    assert in_child(use) == 0


def descriptors() -> dict[int, str]:
    """What is open in this process, by number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the directory itself
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return {number: path for number, path in found.items() if not path.startswith("/proc/")}


# --- forks

# How many rings the kernel shares with each: RX, TX, fill and completion; the two indices and
# data of a ring buffer; a perf ring for each CPU.
RINGS: dict[str, int] = {
    "Xsk": 4,
    "MetadataXsk": 3,
    "CopyRing": 2,
    "perf CopyRing": os.cpu_count() or 1,
}


@pytest.mark.parametrize("kind", RINGS)
def test_memory_that_the_kernel_writes_into_is_left_out_of_a_fork(lab, kind):
    """A child that lives on keeps no copy of it, and a write here goes to the kernel's pages."""
    before = mappings()
    with ExitStack() as stack:
        it = MAKERS[kind](lab, stack)
        assert len(kernels_own(before)) == RINGS[kind]
        if isinstance(it, Xsk):
            areas = [name for name, flags in new_since(before).values() if not name]
            assert areas, "the UMEM's area"
        assert_left_out_of_forks(before)
    assert not kernels_own(before)
