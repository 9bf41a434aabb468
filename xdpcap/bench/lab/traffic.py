"""Traffic into a lab: chosen bytes on a chosen queue, or numbered frames at full rate.

======================  ============================  =============================
..                      `send_frames`, `Sender`       `blast`
======================  ============================  =============================
content                 any bytes, exactly            `frames.blasted_frame`
sizes                   14 to MTU + 18 bytes          50 to 3408 bytes and MTU + 18
arrives                 as skb, in order              as XDP frame, without an skb
receive queue           `queue`, exactly              `queue`
rate on one core        about 0.6 million a second    2 to 3 million a second
needs                   kernel 4.18 (long: 6.6)       kernel 5.18
======================  ============================  =============================

Owner: the calling thread.  The namespaces are entered by threads of their own.

Source relied on: drivers/net/veth.c (veth_xmit() keeps the TX queue's number;
veth_xdp_xmit() takes the CPU's, modulo the queues); net/xdp/xsk.c, xsk_generic_xmit();
net/bpf/test_run.c, xdp_test_run_setup().
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from xdpcap.bench.lab.frames import NUMBER_OFFSET, NUMBERED_RANGE, blasted_frame
from xdpcap.bench.lab.generator import Generator
from xdpcap.bench.lab.namespaces import in_netns
from xdpcap.bench.lab.pair import TX_IFINDEX, TX_NAME, Lab
from xdpcap.errors import UsageError
from xdpcap.host import kernel
from xdpcap.programs.builds import OBJECTS
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

# BPF_F_TEST_XDP_LIVE_FRAMES.
LIVE_FRAMES_SINCE = (5, 18)

GENERATOR = OBJECTS / "generator.bpf.o"

# Live frames lie in one page with the kernel's own state before them and the room for
# an skb's tail after: 3408 bytes are left of 4096 (found by trying on 6.18; one byte
# more is EINVAL).
BLAST_MAX_BYTES = 3408

# A veth forwards up to its MTU, the Ethernet header and one VLAN tag (netdevice.h,
# __is_skb_forwardable(); filter.c, xdp_ok_fwd_dev()); what is longer it drops unseen.
LINK_HEADER_BYTES = 18

TX_FRAME_SIZE = 4096
TX_RING_SIZE = 512
TX_UMEM_BYTES = 4 << 20

# Runs of a paced blast start this far apart, or further: each ends with a grace period of
# RCU, 0.1 to 25 ms.
PACE_INTERVAL_S = 0.002


class Sender:
    """An AF_XDP socket at a lab's sender; a context manager.

    What it sends arrives on the receiver's RX queue `queue`, byte for byte and in order
    (under a generic program and on several queues: if the lab is made `generic`).  It
    keeps other sockets off that queue until closed.
    """

    def __init__(self, lab: Lab, queue: int = 0) -> None:
        _check_queue(lab, queue)
        self._limit = longest_frame(lab)
        self._umem = in_netns(lab.tx_ns, Umem, TX_UMEM_BYTES, frame_size=TX_FRAME_SIZE)
        try:
            self._xsk = in_netns(
                lab.tx_ns,
                Xsk,
                self._umem,
                TX_NAME,
                lab.tx_queue(queue),
                rx_size=0,
                tx_size=TX_RING_SIZE,
                multi_buffer=self._limit > TX_FRAME_SIZE,
            )
        except BaseException:
            self._umem.close()
            raise

    def send(self, frames: Iterable[bytes]) -> int:
        """Send them all; returns how many, when the last has left.

        Raises UsageError for a frame that the pair would drop, KernelError when the
        device takes no more for 5 seconds.
        """
        return self._xsk.send(self._checked(frames))

    def _checked(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        for frame in frames:
            if not 14 <= len(frame) <= self._limit:
                raise UsageError(
                    f"a frame of {len(frame)} bytes does not pass; this lab takes 14 to "
                    f"{self._limit}"
                )
            yield frame

    def close(self) -> None:
        """Free the queue; safe to call again."""
        self._xsk.close()
        self._umem.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def longest_frame(lab: Lab) -> int:
    """Bytes of the longest frame that gets from a lab's sender to its receiver."""
    return min(lab.mtu, lab.peer_mtu) + LINK_HEADER_BYTES


def send_frames(lab: Lab, frames: Iterable[bytes], queue: int = 0) -> int:
    """Send frames from the lab's sender so that they arrive on RX queue `queue`.

    Byte-exact and in order, through a `Sender` made for this call.  Returns how many
    were sent, when the last has left.
    """
    with Sender(lab, queue) as sender:
        return sender.send(frames)


def blast(
    lab: Lab,
    count: int,
    size: int = 60,
    pps: float | None = None,
    *,
    queue: int | None = None,
) -> int:
    """Send `count` numbered frames of `size` bytes as XDP frames; returns `count`.

    The frames are `blasted_frame(size, 0)` to `blasted_frame(size, count - 1)`.  They
    arrive in native mode without an skb, and only if the receiver has an XDP program
    or GRO on.  `pps` limits the rate; None is as fast as one core goes.

    `queue` pins the sending thread to a CPU whose frames land on that RX queue; None
    leaves the CPU, and so the queue, to the scheduler.  Raises UsageError for a size
    that live frames can't have, on a kernel without them, and when no CPU leads to the queue.
    """
    longest = min(BLAST_MAX_BYTES, longest_frame(lab))
    if not NUMBERED_RANGE.start <= size <= longest:
        raise UsageError(
            f"a blast of {size}-byte frames; this lab takes {NUMBERED_RANGE.start} to {longest}"
        )
    cpu = None if queue is None else _cpu_for(lab, queue)
    return in_netns(lab.tx_ns, _blast, count, size, pps, cpu)


def _blast(count: int, size: int, pps: float | None, cpu: int | None) -> int:
    kernel.require(LIVE_FRAMES_SINCE, "traffic at full rate")
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})  # this thread alone, which ends with the blast
    template = blasted_frame(size, 0)
    with Generator(str(GENERATOR), TX_IFINDEX, template, number_offset=NUMBER_OFFSET) as generator:
        if pps is None:
            return generator.send(count)
        started = time.monotonic()
        sent = 0
        while sent < count:
            due = min(count, int((time.monotonic() - started) * pps) + 1)
            if due > sent:
                sent += generator.send(due - sent)
            time.sleep(max(PACE_INTERVAL_S, 1 / pps) if sent < count else 0)
    return sent


def _check_queue(lab: Lab, queue: int) -> None:
    if not 0 <= queue < lab.queues:
        raise UsageError(f"queue {queue} is not among the lab's {lab.queues}")


def _cpu_for(lab: Lab, queue: int) -> int:
    _check_queue(lab, queue)
    for cpu in sorted(os.sched_getaffinity(0)):
        if cpu % lab.queues == queue:
            return cpu
    raise UsageError(
        f"no CPU of {sorted(os.sched_getaffinity(0))} sends to queue {queue} of {lab.queues}; "
        "use send_frames"
    )
