"""What was lost stands in the file at the place where it was lost."""

from __future__ import annotations

import itertools

import pytest
from capture_files import flushed, go_on, of_queue, packets, parts, stand_still, statistics
from ledger_checks import Wire, check_books
from recorder import Recorder

from xdpcap.bench.lab.frames import frame_number, numbered_frame

RING = 64
MEMORY = ("--ring-size", str(RING), "--umem-size", "128KiB", "--flush-interval", "50ms")


class Queue:
    """Numbered packets for one queue, sent while the recorder takes them or stands still."""

    def __init__(self, recorder: Recorder, wire: Wire, queue: int, size: int) -> None:
        self.room = RING // -(-size // (2048 - 256))
        self._recorder, self._wire, self._queue, self._size = recorder, wire, queue, size
        self._numbers = itertools.count()
        self._kept = 0

    def send(self, count: int) -> None:
        """Send packets for which there is room; returns when they are in the file."""
        numbers = itertools.islice(self._numbers, count)
        self._wire.send((numbered_frame(self._size, n) for n in numbers), self._queue)
        self._wire.arrived()
        self._expect(count)

    def lose(self, count: int) -> None:
        """Send so many packets more than a ring holds that nobody empties."""
        stand_still(self._recorder)
        numbers = itertools.islice(self._numbers, self.room + count)
        self._wire.send((numbered_frame(self._size, n) for n in numbers), self._queue)
        self._wire.arrived()
        go_on(self._recorder)
        self._expect(self.room)

    def _expect(self, more: int) -> None:
        self._kept += more
        (part,) = [p for p in parts(self._recorder) if f"-q{self._queue}-" in p.name]
        self._recorder.wait_for(lambda: len(flushed(part)) == self._kept)


def told_and_missing(paths):
    """Of each packet: what its epb_dropcount tells, and how many numbers miss before it."""
    last, pairs = -1, []
    for packet in packets(paths):
        number = frame_number(packet.data)
        pairs.append((packet.options.get("epb_dropcount", 0), number - last - 1))
        last = number
    return pairs


@pytest.mark.parametrize(("size", "mtu"), [(60, 1500), (3000, 3000)])
def test_the_packet_after_a_loss_tells_how_many_were_lost_before_it(make_lab, record, size, mtu):
    lab = make_lab(queues=2, mtu=mtu)
    recorder = record("--json", *MEMORY, lab=lab)
    wire = Wire(lab)
    losses = {0: [5, 1, 17], 1: [3]}
    for number, counts in losses.items():
        queue = Queue(recorder, wire, number, size)
        for lost in counts:
            queue.lose(lost)
            queue.send(3)
    result = recorder.stop()
    assert check_books(result)["rx_dropped"] == sum(map(sum, losses.values()))
    for number, counts in losses.items():
        (path,) = of_queue(result, number)
        pairs = told_and_missing([path])
        assert [told for told, _ in pairs if told] == counts
        assert all(told == missing for told, missing in pairs), pairs
        assert statistics(path)["isb_osdrop"] == sum(counts)


def test_a_loss_at_the_end_of_a_file_is_told_at_the_beginning_of_the_next(lab, record):
    recorder = record("--json", *MEMORY, "--rotate-packets", str(RING))
    wire = Wire(lab)
    queue = Queue(recorder, wire, 0, 60)
    queue.lose(9)
    wire.send([numbered_frame(60, RING + 9)])
    wire.arrived()
    first, second = recorder.stop().files
    assert {told for told, _ in told_and_missing([first])} == {0}
    assert told_and_missing([second]) == [(9, RING + 9)]
    assert statistics(first)["isb_osdrop"] == statistics(second)["isb_osdrop"] == 9
