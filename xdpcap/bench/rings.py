"""Measure the rings of an interface: the order of set-up and tear-down, and nothing else."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any, Protocol

from xdpcap import net
from xdpcap.bench.ring_loop import RingLoop
from xdpcap.bench.rings_report import Moment, RingRate, RingSample, between, total
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host import kernel, privileges
from xdpcap.host.cpu_time import machine_busy_s, thread_cpu_s
from xdpcap.host.threads import ThreadGroup, failure_line
from xdpcap.host.wakeups import Wakeups
from xdpcap.net import netns
from xdpcap.options.bench_rings import RingBenchOptions, idle_frame
from xdpcap.record.attachment import Attachment
from xdpcap.replay.attachment import TxAttachment
from xdpcap.rings.xsk import Xsk


class RingBenchUi(Protocol):
    """What the session needs of its terminal side."""

    def begin(self, about: dict[str, Any]) -> None: ...
    def tick(self, now: RingRate, elapsed_s: float) -> None: ...


def ring_bench_session(options: RingBenchOptions, ui: RingBenchUi) -> dict[str, Any]:
    """Run the loops for `options.duration_s`, or until a signal; the report.

    Raises XdpcapError when it can't begin or a loop fails.
    """
    options.validate()
    kernel.require((5, 1) if options.sends else (4, 18), f"bench {options.mode}")
    kernel.require_af_xdp()
    with contextlib.ExitStack() as stack:
        return _Session(options, ui, stack).run()


class _Loop:
    """One queue's loop in its thread, one of `threads`."""

    def __init__(
        self, options: RingBenchOptions, xsk: Xsk, cpu: int | None, threads: ThreadGroup
    ) -> None:
        frame = idle_frame(options.packet_size) if options.mode == "tx-only" else None
        self.xsk = xsk
        self.queue = int(xsk.queue)
        self.error: XdpcapError | None = None
        self._loop = RingLoop(
            xsk,
            options.mode,
            batch=options.batch,
            busy_poll=options.busy_poll,
            pauses=options.wait == "pause",
            frame=frame,
        )
        self._cpu = cpu
        self._where = f"{options.interface} queue {self.queue}"
        self._thread = threads.add(
            f"{options.mode}-{self.queue}", self._main, stop=self._request_stop, failed=self._fail
        )
        # A thread's clock is gone with it: it waits until its last reading has been taken.
        self._read = threading.Event()
        self.ended = threading.Event()

    def _main(self) -> None:
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            if number := self._loop.run():
                hint = f"`ip link set {self.xsk.interface} up`"
                self.error = KernelError(f"{self._where}: sendto", number, hint)
        except BaseException as exc:
            self._fail(failure_line(exc))
        self.ended.set()
        self._read.wait()

    def _fail(self, text: str) -> None:
        self.error = XdpcapError(f"{self._where}: {text}")

    def sample(self) -> RingSample:
        """Its counters now."""
        return RingSample(
            self.queue,
            self._loop.counters,
            self.xsk.statistics(),
            thread_cpu_s(self._thread.ident),
        )

    def close(self) -> None:
        """Let go of the socket."""
        self._loop.close()

    def _request_stop(self) -> None:
        self._loop.request_stop()
        self._read.set()


class _Session:
    def __init__(
        self, options: RingBenchOptions, ui: RingBenchUi, stack: contextlib.ExitStack
    ) -> None:
        self._options = options
        self._ui = ui
        self._stack = stack
        self._loops: list[_Loop] = []

    def run(self) -> dict[str, Any]:
        options = self._options
        if options.netns is not None:
            netns.enter(options.netns)
        privileges.require(options.umem_size_bytes)
        privileges.raise_memlock()
        link = self._admit()
        queues = net.choose_queues(link.name, options.queues)
        wakeups = self._stack.enter_context(Wakeups())
        attachment = self._attach(link, queues)
        about = self._about(link, attachment)
        self._ui.begin(about)
        # Unwound before the attachment is: a loop must not outlive its rings.
        threads = ThreadGroup(wakeups.notify)
        for number, xsk in enumerate(attachment.xsks.values()):
            cpu = options.cpus[number % len(options.cpus)] if options.cpus else None
            loop = _Loop(options, xsk, cpu, threads)
            self._stack.callback(loop.close)
            self._loops.append(loop)
        self._stack.callback(threads.close)
        threads.start()
        if isinstance(attachment, Attachment):
            attachment.start()
        return self._measure(wakeups, about)

    def _admit(self) -> net.Link:
        options = self._options
        link = net.get_link(options.interface)
        if not options.force:
            reason = (
                net.refusal(link.name)
                if options.receives
                else net.refusal(link.name, because=net.SENDING)
            )
            if reason is not None:
                raise UsageError(reason)
        net.require_up(link, options.netns)
        return link

    def _attach(self, link: net.Link, queues: tuple[int, ...]) -> Attachment | TxAttachment:
        options = self._options
        attachment: Attachment | TxAttachment
        if options.receives:
            attachment = Attachment(
                options.record_options,
                link,
                queues,
                net.rx_queue_count(link.name),
                tx_size=options.ring_size if options.sends else 0,
                need_wakeup=options.need_wakeup,
            )
        else:
            attachment = TxAttachment(
                options.replay_options, link, queues, need_wakeup=options.need_wakeup
            )
        self._stack.callback(attachment.close)
        return attachment

    def _about(self, link: net.Link, attachment: Attachment | TxAttachment) -> dict[str, Any]:
        options = self._options
        return {
            "mode": options.mode,
            "interface": link.name,
            "driver": link.driver,
            "kernel": os.uname().release,
            "attach": attachment.attach_mode,
            "zero_copy": all(xsk.zero_copy for xsk in attachment.xsks.values()),
            "frame_size": attachment.frame_size,
            "ring_size": attachment.ring_size,
            "batch": options.batch,
            "wait": options.wait,
            "busy_poll": options.busy_poll,
            "need_wakeup": options.need_wakeup,
        }

    # -- measuring ------------------------------------------------------------------------

    def _moment(self) -> Moment:
        rows = [loop.sample() for loop in self._loops]
        return Moment(time.monotonic(), machine_busy_s(), rows)

    def _measure(self, wakeups: Wakeups, about: dict[str, Any]) -> dict[str, Any]:
        options = self._options
        first = last = self._moment()
        end_s = first.at_s + options.duration_s
        while not wakeups.stopped and not any(loop.ended.is_set() for loop in self._loops):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            wakeups.wait(min(options.interval_s, left_s))
            now = self._moment()
            rates = [rate for _, rate in between(last, now, options.ring_size)]
            self._ui.tick(total(rates), now.at_s - first.at_s)
            last = now
        self._raise_failure()
        rows = between(first, last, options.ring_size)
        whole = total([rate for _, rate in rows])
        busy_s = last.machine_busy_s - first.machine_busy_s
        return {
            **about,
            "seconds": whole.seconds,
            **whole.as_dict(),
            "machine_cpu": busy_s / whole.seconds if whole.seconds else 0.0,
            "queues": [{"queue": queue, **rate.as_dict()} for queue, rate in rows],
        }

    def _raise_failure(self) -> None:
        for loop in self._loops:
            if loop.error is not None:
                raise loop.error
