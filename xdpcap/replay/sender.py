"""Sending threads: one a queue, each running the sending loop without the GIL."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from xdpcap.errors import XdpcapError
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.replay import ReplayConfig
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
    """Sends jobs out of one queue.  `notify` is called from its thread when it ends.

    With a `clock` the NIC keeps the packets' times, and the thread need not wait awake.
    """

    def __init__(
        self,
        config: ReplayConfig,
        interface: str,
        xsk: Xsk,
        *,
        limit: SendLimit | None,
        cpu: int | None,
        clock: HardwareClock | None = None,
        notify: Callable[[], None],
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
            batch=config.batch,
            late_ns=int(config.late_s * 1e9),
            sleep_only=config.timer == "sleep" or clock is not None,
            limit=limit,
            launch_clock=None if clock is None else clock.id,
            lead_ns=0 if clock is None else LEAD_NS,
        )
        self._cpu = cpu
        self._notify = notify
        self._begun_ns = 0
        self._deadline_ns = 0
        self._stopped = threading.Event()
        self._inbox: queue.Queue[Job | None] = queue.Queue(INBOX)
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.name = f"{interface}-tx{self.queue}"

    def start(self, begun_ns: int, deadline_ns: int) -> None:
        """Begin: due times count from `begun_ns`, both in CLOCK_MONOTONIC; 0 is none."""
        self._begun_ns, self._deadline_ns = begun_ns, deadline_ns
        self._thread.start()

    def put(self, job: Job | None) -> bool:
        """Hand over a job (None: no more), waiting for room; False when it has ended."""
        while not self.done:
            try:
                self._inbox.put(job, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def request_stop(self) -> None:
        """End soon; from any thread."""
        self._stopped.set()
        self.transmitter.request_stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when it did not come in time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the thread -----------------------------------------------------------------------

    def _main(self) -> None:
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            reason = self._send_all()
            patience = DRAIN_STOPPED_S if self._stopped.is_set() else DRAIN_S
            drained = self.transmitter.drain(patience)
            self.ended_ns = time.monotonic_ns()
            self._judge(reason if reason != transmitter.DONE else drained)
        except (XdpcapError, OSError) as exc:
            self.error = str(exc)
        finally:
            self.done = True
            self._notify()

    def _send_all(self) -> int:
        for job in self._jobs():
            reason = self._send(job)
            if reason != transmitter.DONE:
                return reason
        return transmitter.DONE

    def _jobs(self) -> Iterator[Job]:
        while not self._stopped.is_set():
            try:
                job = self._inbox.get(timeout=0.1)
            except queue.Empty:
                continue
            if job is None:
                return
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
        where = f"{self.interface} queue {self.queue}"
        if reason == transmitter.DOWN:
            self.error = f"{where}: the interface is down; `ip link set {self.interface} up`"
        elif reason == transmitter.STUCK and not self._stopped.is_set():
            out = self.transmitter.frames_out
            self.error = f"{where}: {out} frames handed over are not completed; is the link up?"
        elif reason == transmitter.FAILED:
            self.error = f"{where}: sendto: {os.strerror(self.transmitter.error)}"
        elif reason == transmitter.LIMIT:
            self.limit_reached = True
