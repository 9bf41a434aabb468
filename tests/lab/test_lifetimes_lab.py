"""close() of a socket, a UMEM, a sink or rings under a loop is an error that names the loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.ring_loop import RingLoop
from xdpcap.inspect.live_rings import LiveRings
from xdpcap.packets.packet_set import PacketSet
from xdpcap.record.capture import Capture
from xdpcap.replay.plan import divide
from xdpcap.replay.transmitter import Transmitter
from xdpcap.rings.copy_rings import CopyRing
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk
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


def test_memory_that_the_kernel_writes_into_is_left_out_of_a_fork(lab):
    """A child that lives on keeps no copy of it, and a write here goes to the kernel's pages."""
    with socket(lab, rx_size=FRAMES) as (umem, xsk):
        areas = [line for line in smaps() if "dc" in line.split()]
        assert areas
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(sum("dc" in line.split() for line in smaps())).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 16) == b"0"
        os.close(reading)
        os.close(writing)
        assert xsk.fd >= 0 and umem.size_bytes == SIZE


def smaps() -> list[str]:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return [line for line in lines if line.startswith("VmFlags:")]
