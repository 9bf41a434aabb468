"""Senders: one a queue, each running the sending loop without the GIL in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from xdpcap.host.threads import failure_line
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay import transmitter
from xdpcap.replay.launch_time import LEAD_NS
from xdpcap.replay.plan import Order, Plan
from xdpcap.replay.transmitter import SendLimit, Transmitter
from xdpcap.rings.xsk import Xsk

# How long completions are waited for at the end, and after a stop.
DRAIN_S = 2.0
DRAIN_STOPPED_S = 0.5
# Batches that may wait for a queue while streaming.
INBOX = 2


@dataclass(frozen=True)
class Job:
    """Packets for one queue; `passes` 0 sends them until stopped.

    `pass_ns` is how much later each further pass begins.
    """

    packets: PacketSet
    order: Order
    plan: Plan | None
    passes: int = 1
    pass_ns: int = 0
    place: bool = False


class Sender:
    """Sends jobs out of one queue.

    With a `clock` the NIC keeps the packets' times, and the thread need not wait awake.
    """

    def __init__(
        self,
        options: ReplayOptions,
        interface: str,
        xsk: Xsk,
        *,
        limit: SendLimit | None,
        cpu: int | None,
        clock: HardwareClock | None = None,
    ) -> None:
        self.interface = interface
        self.queue = int(xsk.queue)
        self.zero_copy = bool(xsk.zero_copy)
        self.error: str | None = None
        self.limit_reached = False
        self.done = False
        self.passes = 0
        self.ended_ns = 0
        self.transmitter = Transmitter(
            xsk,
            batch=options.batch,
            late_ns=int(options.late_s * 1e9),
            sleep_only=options.timer == "sleep" or clock is not None,
            limit=limit,
            launch_clock=None if clock is None else clock.id,
            lead_ns=0 if clock is None else LEAD_NS,
        )
        self._cpu = cpu
        self._begun_ns = 0
        self._deadline_ns = 0
        self._stopped = threading.Event()
        self._input_ended = threading.Event()
        # None wakes it for the end of the input.
        self._inbox: queue.Queue[Job | None] = queue.Queue(INBOX)
        self.name = f"{interface}-tx{self.queue}"

    def set_times(self, begun_ns: int, deadline_ns: int) -> None:
        """Due times count from `begun_ns`, both in CLOCK_MONOTONIC; 0 is none.  Before run()."""
        self._begun_ns, self._deadline_ns = begun_ns, deadline_ns

    def put(self, job: Job) -> bool:
        """Hand over a job, waiting for room; False when it has ended."""
        while not self.done:
            try:
                self._inbox.put(job, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def end_input(self) -> None:
        """No job follows those handed over; never waits, and safe to call again."""
        self._input_ended.set()
        with contextlib.suppress(queue.Full):  # It looks before it waits again.
            self._inbox.put_nowait(None)

    def request_stop(self) -> None:
        """End soon; from any thread."""
        self._stopped.set()
        self.transmitter.request_stop()

    # -- the thread -----------------------------------------------------------------------

    def run(self) -> None:
        """Send what put() brings until end_input() or request_stop(); the thread's whole life."""
        try:
            self._send_and_drain()
        finally:
            self.ended_ns = time.monotonic_ns()
            self.done = True

    def close(self) -> None:
        """Let go of the socket; after run() has returned, or without it."""
        self.transmitter.close()

    def fail(self, text: str) -> None:
        """Keep the first failure."""
        if self.error is None:
            self.error = f"{self.interface} queue {self.queue}: {text}"

    def _send_and_drain(self) -> None:
        reason = transmitter.DONE
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            reason = self._send_all()
        except BaseException as exc:
            # Whatever it is, what was handed over by then is still counted.
            self.fail(failure_line(exc))
        patience_s = DRAIN_STOPPED_S if self._stopped.is_set() else DRAIN_S
        drained = self.transmitter.drain(patience_s)
        self._judge(reason if reason != transmitter.DONE else drained)

    def _send_all(self) -> int:
        for job in self._jobs():
            reason = self._send(job)
            if reason != transmitter.DONE:
                return reason
        return transmitter.DONE

    def _jobs(self) -> Iterator[Job]:
        while not self._stopped.is_set():
            # Asked for before the inbox: what comes into that afterwards is no job.
            ended = self._input_ended.is_set()
            try:
                job = self._inbox.get(block=not ended, timeout=0.1)
            except queue.Empty:
                if ended:
                    return
                continue
            if job is not None:
                yield job

    def _send(self, job: Job) -> int:
        if len(job.order) == 0:
            return transmitter.DONE
        self.transmitter.load(job.packets, job.order, job.plan, place=job.place)
        for number in count() if job.passes == 0 else range(job.passes):
            if number:
                self.transmitter.rewind()
            begun_ns = self._begun_ns + number * job.pass_ns
            reason = int(self.transmitter.run(begun_ns, self._deadline_ns))
            if reason != transmitter.DONE:
                return reason
            self.passes += 1
        return transmitter.DONE

    def _judge(self, reason: int) -> None:
        if reason == transmitter.DOWN:
            self.fail(f"the interface is down; `ip link set {self.interface} up`")
        elif reason == transmitter.STUCK and not self._stopped.is_set():
            out = self.transmitter.frames_out
            self.fail(f"{out} frames handed over are not completed; is the link up?")
        elif reason == transmitter.FAILED:
            self.fail(f"sendto: {os.strerror(self.transmitter.error)}")
        elif reason == transmitter.LIMIT:
            self.limit_reached = True
