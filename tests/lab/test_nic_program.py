"""The program for a NIC, run by a veth's driver: what it copies arrives as from a device.

A NIC that runs programs itself there is none here; `dump -H` on a veth, which is refused, is in
test_dump_live.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from receiver_namespace import in_receiver

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.host import kernel
from xdpcap.inspect.file_source import Seen
from xdpcap.inspect.live_rings import HOLD_NS, LiveRings
from xdpcap.inspect.live_source import LiveSource
from xdpcap.options.dump import DumpOptions
from xdpcap.programs.builds import nic_variant
from xdpcap.programs.nic_program import NicProgram
from xdpcap.record import nic_attachment
from xdpcap.rings.copy_rings import CopyRing

LENGTHS = (60, 99, 100, 101, 1514)


@contextmanager
def looking(lab, size: int, snaplen: int = 0) -> Iterator[tuple[NicProgram, CopyRing]]:
    """The program on rx0, and its rings."""
    with (
        NicProgram(nic_variant().path, name=nic_variant().program) as program,
        closing(CopyRing(0, size, perf=True, stamped=True)) as ring,
    ):
        program.set_snaplen(snaplen)
        program.bind_ring(0, ring)
        program.attach(lab.rx_ifindex, "native", link=kernel.has_bpf_link())
        yield program, ring


class DriversOwn(NicProgram):
    """The program in the driver, wherever it is asked to be."""

    def __new__(cls, path: str, *, device: int, name: str) -> DriversOwn:
        assert device > 0
        return super().__new__(cls, path, name=name)

    def attach(self, ifindex: int, mode: str, *, link: bool) -> None:
        assert mode == "offload"
        super().attach(ifindex, "native", link=link)


@pytest.mark.parametrize("snaplen", [0, 100])
@in_receiver
def test_each_packet_is_copied_and_has_the_time_at_which_its_copy_came(lab, snaplen):
    sent = [numbered_frame(LENGTHS[n % len(LENGTHS)], n) for n in range(500)]
    with looking(lab, 1 << 22, snaplen) as (program, ring):
        began = time.monotonic_ns()
        send_frames(lab, sent)
        ended = time.monotonic_ns()
        time.sleep(2 * HOLD_NS / 1e9)
        with closing(LiveRings([ring], nic_variant().clock)) as look:
            seen = look.read(len(sent) + 1, 0)
        assert program.copied_count == ring.empty() == len(sent)
    assert [data for *_, data in seen] == [frame[: snaplen or None] for frame in sent]
    assert [origlen for _, _, origlen, _ in seen] == [len(frame) for frame in sent]
    times = [ts_ns for _, ts_ns, _, _ in seen]
    assert times == sorted(times) and len(set(times)) > len(times) // 2
    assert began < times[0] and times[-1] < ended + 10**9


@in_receiver
def test_copies_that_find_no_room_are_those_that_have_not_arrived(lab):
    with looking(lab, 1 << 16) as (program, ring):
        send_frames(lab, [numbered_frame(1514, n) for n in range(200)])
        assert program.copied_count == 200
        assert 0 < ring.empty() < 200


@in_receiver
def test_dump_tells_no_queue_and_the_host_applies_the_filter(lab, monkeypatch):
    monkeypatch.setattr(nic_attachment, "NicProgram", DriversOwn)
    asked = DumpOptions(("rx0",), "greater 100", offload=True)
    sent = [numbered_frame(length, length) for length in LENGTHS * 20]
    wanted = [frame for frame in sent if len(frame) >= 100]
    with closing(LiveSource(asked.recording(), 1, on_nic=True)) as source:
        assert "rx0 (native, all queues)" in source.opening
        send_frames(lab, sent)
        found: list[Seen] = []
        for batch in source.batches():
            found += batch
            if len(found) == len(wanted):
                break
        ledger = source.ledger(len(found))
    assert [seen.data for seen in found] == wanted
    assert {(seen.interface, seen.queue) for seen in found} == {("rx0", None)}
    assert abs(found[-1].ts_ns - time.time_ns()) < 60 * 10**9
    assert (ledger.seen, ledger.filtered, ledger.written, ledger.ring_lost) == (100, 40, 60, 0)
