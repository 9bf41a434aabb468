"""The replay session: the order of set-up and tear-down, and nothing else."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Protocol

from xdpcap import net
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.host import kernel, privileges
from xdpcap.host.threads import GroupThread, ThreadGroup, end_process
from xdpcap.host.wakeups import Wakeups
from xdpcap.net import netns
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.edit.rewrite import Rewriter
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.attachment import TxAttachment
from xdpcap.replay.batches import Batch, BatchSource
from xdpcap.replay.plan import Pacer, divide
from xdpcap.replay.report import DIFFERENCES, Progress, build_report, differs
from xdpcap.replay.sender import Job, Sender
from xdpcap.replay.split import open_sides
from xdpcap.replay.startup import ReplayStartupReport
from xdpcap.replay.startup_warnings import link_warnings, sending_warnings
from xdpcap.replay.transmitter import SendLimit
from xdpcap.replay.verify import Recorder, SentLog, compare

# From the decision to start until the first packet: threads are up by then.
LEAD_NS = 20_000_000
ETHERNET_HEADER = 14


class SessionUi(Protocol):
    """What the session needs of its terminal side."""

    def startup(self, report: ReplayStartupReport) -> None: ...
    def start(self, total_packets: int | None, total_seconds: float | None) -> None: ...
    def tick(self, progress: Progress) -> None: ...
    def message(self, text: str) -> None: ...
    def finish(self, report: dict[str, Any]) -> None: ...


def replay_session(options: ReplayOptions, ui: SessionUi) -> int:
    """Send as `options` says; returns the exit code.

    0 when everything was sent or the limit was reached as wished, 1 when something went
    wrong on the way; XdpcapError when it could not begin.
    """
    options.validate()
    kernel.require((5, 1), "replay")
    kernel.require_af_xdp()
    with contextlib.ExitStack() as stack:
        return ReplaySession(options, ui, stack).run()


class ReplaySession:
    """One replay.  Owned by the main thread."""

    def __init__(self, options: ReplayOptions, ui: SessionUi, stack: contextlib.ExitStack) -> None:
        self._options = options
        self._ui = ui
        self._stack = stack
        self._senders: list[list[Sender]] = []
        self._problems: list[str] = []
        self._attachments: list[TxAttachment] = []
        self._source: BatchSource
        self._wakeups: Wakeups | None = None
        self._threads = ThreadGroup(self._notify)
        self._feeder: GroupThread
        self._hung: list[GroupThread] = []
        self._far_end: Recorder | None = None
        self._log: SentLog | None = None

    def run(self) -> int:
        """The whole life of the session."""
        options = self._options
        if options.netns is not None:
            netns.enter(options.netns)
        privileges.require(options.umem_size_bytes)
        privileges.raise_memlock()
        links = [self._admit(name) for name in self._interfaces()]
        longest = min(link.mtu for link in links) + ETHERNET_HEADER
        self._source = BatchSource(
            options,
            longest=longest,
            pacer=_pacer(options),
            edit=_editor(options),
            sides=open_sides(options),
            threads=self._threads,
        )
        self._stack.callback(self._threads.close)
        batches = self._source.batches()
        # The first batch before anything is attached: what can't be read harms nothing.
        first = next(batches, None)
        if first is None or (self._source.preload and not len(first.packets)):
            raise XdpcapError(self._nothing_to_send())
        self._wakeups = wakeups = self._stack.enter_context(Wakeups())
        for link in links:
            self._attach(link)
        self._make_senders()
        # Unwound before senders and attachments are: a thread must not outlive its rings.
        self._stack.callback(self._threads.close)
        self._announce(first)
        self._record_far_end()
        begun_ns = self._begin()
        self._start_feeding(first, batches)
        self._watch(begun_ns, wakeups)
        seconds = self._finish(begun_ns)
        report = self._report(seconds)
        report["verify"] = self._verify()
        if invalid := report["tx_errors"]["tx_invalid_descs"]:
            self._problems.append(
                f"{invalid} descriptors were refused by the kernel (tx_invalid_descs): their "
                "packets count as sent and have not left; please report this"
            )
        self._ui.finish(report)
        for problem in self._problems:
            self._ui.message(problem)
        if self._hung:
            end_process()
        return 1 if self._problems else 0

    def _notify(self) -> None:
        """Wake the main thread; from any thread."""
        if self._wakeups is not None:
            self._wakeups.notify()

    # -- set-up -----------------------------------------------------------------------------

    def _interfaces(self) -> list[str]:
        second = self._options.second_interface
        return [self._options.interface] + ([second] if second is not None else [])

    def _admit(self, name: str) -> net.Link:
        link = net.get_link(name)
        if not self._options.force:
            reason = net.refusal(name, because=net.SENDING)
            if reason is not None:
                raise UsageError(reason)
        net.require_up(link, self._options.netns)
        return link

    def _attach(self, link: net.Link) -> None:
        queues = net.choose_queues(link.name, self._options.queues or (0,))
        attachment = TxAttachment(self._options, link, queues)
        self._stack.callback(attachment.close)
        self._attachments.append(attachment)

    def _make_senders(self) -> None:
        options = self._options
        limit = SendLimit(options.limit) if options.limit is not None else None
        number = 0
        for attachment in self._attachments:
            row = []
            for xsk in attachment.xsks.values():
                cpu = options.cpus[number % len(options.cpus)] if options.cpus else None
                number += 1
                name, clock = attachment.link.name, attachment.clock
                sender = Sender(options, name, xsk, limit=limit, cpu=cpu, clock=clock)
                self._stack.callback(sender.close)
                row.append(sender)
            self._senders.append(row)

    def _nothing_to_send(self) -> str:
        reading = self._source.reading
        if reading.damage:
            return reading.damage[0]
        skipped = sum(reading.skipped.values())
        if skipped:
            return f"none of {skipped} packets can be sent: too long for the MTU, or too short"
        return f"{', '.join(self._options.files)}: no packet to send"

    def _announce(self, first: Batch) -> None:
        options, preload = self._options, self._source.preload
        warnings = list(sending_warnings(options, self._source, len(first.packets), len(self._all)))
        for attachment in self._attachments:
            self._ui.startup(
                ReplayStartupReport(
                    interface=attachment.link.name,
                    driver=attachment.link.driver,
                    attach_mode=attachment.attach_mode,
                    queues=[(q, bool(x.zero_copy)) for q, x in attachment.xsks.items()],
                    files=options.files,
                    packets=len(first.packets) if preload else None,
                    bytes=first.packets.packet_bytes if preload else None,
                    preload=preload,
                    pace=options.pace_text,
                    launch_time=attachment.launch_time,
                    kernel=os.uname().release,
                    warnings=[*link_warnings(attachment.link), *warnings],
                )
            )
            warnings = []  # said once, with the first interface

    def _record_far_end(self) -> None:
        target = self._options.verify_target
        if target is None:
            return
        self._far_end = Recorder(*target)
        self._stack.callback(self._far_end.close)
        self._far_end.wait_ready()
        self._log = SentLog()

    def _verify(self) -> dict[str, Any] | None:
        """Compare the far end with what was handed over; None without --verify."""
        if self._far_end is None or self._log is None:
            return None
        report, arrived = self._far_end.stop()
        counts = [sender.transmitter.counters[0] for sender in self._all]
        result = compare(self._log.sent(counts), arrived)
        result["recorder"] = report["total"]
        if differs(result):
            found = ", ".join(f"{result[name]} {name}" for name in DIFFERENCES)
            self._problems.append(f"--verify {self._options.verify}: {found}")
        return result

    # -- sending ----------------------------------------------------------------------------

    @property
    def _all(self) -> list[Sender]:
        return [sender for row in self._senders for sender in row]

    def _begin(self) -> int:
        """Start the threads; returns when the first packet is due, CLOCK_MONOTONIC."""
        options = self._options
        begun_ns = time.monotonic_ns() + LEAD_NS
        if options.start_at_ns is not None:
            begun_ns = time.monotonic_ns() + max(options.start_at_ns - time.time_ns(), LEAD_NS)
        deadline_ns = 0
        if options.duration_s is not None:
            deadline_ns = begun_ns + int(options.duration_s * 1e9)
        self._leave_cpus()
        for sender in self._all:
            sender.set_times(begun_ns, deadline_ns)
            self._threads.add(
                sender.name, sender.run, stop=sender.request_stop, failed=sender.fail
            ).start()
        return begun_ns

    def _leave_cpus(self) -> None:
        """Keep this thread, and those it makes, off the CPUs that senders have to themselves."""
        allowed = os.sched_getaffinity(0)
        others = allowed - set(self._options.cpus or ())
        if others and others != allowed:
            os.sched_setaffinity(0, others)
            self._stack.callback(os.sched_setaffinity, 0, allowed)

    def _start_feeding(self, first: Batch, batches: Any) -> None:
        passes = self._options.loop if self._source.preload else 1
        total = len(first.packets) * passes if self._source.preload and passes else None
        pass_ns = int(self._source.pass_ns)
        seconds = pass_ns * passes / 1e9 if total is not None and pass_ns else None
        self._ui.start(total, seconds)

        def feed() -> None:
            try:
                self._put(first, passes, pass_ns)
                for batch in batches:
                    self._put(batch, 1, 0)
            except MemoryError:
                if not self._source.preload:
                    raise
                raise XdpcapError("no memory for the packets; use --no-preload") from None
            finally:
                self._end_input()

        # It hands over packets, and uses no ring: it may be in the middle of a large batch.
        self._feeder = self._threads.add(
            "feeder", feed, stop=self._source.stop, failed=self._problems.append, may_stay=True
        )
        self._feeder.start()

    def _end_input(self) -> None:
        for sender in self._all:
            sender.end_input()

    def _put(self, batch: Batch, passes: int, pass_ns: int) -> None:
        for side, row in enumerate(self._senders):
            packets, plan = batch.side(side)
            for sender, order in zip(row, divide(packets, len(row)), strict=True):
                job = Job(packets, order, plan, passes, pass_ns, place=self._source.preload)
                if self._log is not None:
                    self._log.add(self._all.index(sender), job)
                sender.put(job)

    def _watch(self, begun_ns: int, wakeups: Wakeups) -> None:
        interval = self._options.stats_interval_s
        while not all(sender.done for sender in self._all):
            wakeups.wait(interval)
            if not self._feeder.running:
                self._end_input()  # However it ended, nobody waits for what it would have brought.
            self._ui.tick(self._progress(begun_ns))
            if wakeups.stopped or any(sender.error for sender in self._all):
                for sender in self._all:
                    sender.request_stop()
                self._source.stop()
                return

    def _progress(self, begun_ns: int) -> Progress:
        rows = [sender.transmitter.counters for sender in self._all]
        return Progress(
            sent=sum(row[2] for row in rows),
            bytes=sum(row[1] for row in rows),
            elapsed_s=max(time.monotonic_ns() - begun_ns, 0) / 1e9,
            late=sum(row[3] for row in rows),
            queues=len(rows),
        )

    def _finish(self, begun_ns: int) -> float:
        self._source.stop()  # Nobody sends what it would still read.
        self._hung = self._threads.join()
        self._problems += [f"thread {thread.name} does not stop" for thread in self._hung]
        ended_ns = max((sender.ended_ns for sender in self._all), default=0)
        seconds = max((ended_ns or time.monotonic_ns()) - begun_ns, 0) / 1e9
        self._problems += [sender.error for sender in self._all if sender.error]
        self._problems += self._source.reading.damage
        return seconds

    def _report(self, seconds: float) -> dict[str, Any]:
        return build_report(self._options, self._senders, self._attachments, self._source, seconds)


def _pacer(options: ReplayOptions) -> Pacer | None:
    if options.top_speed:
        return None
    if options.pps is not None:
        return Pacer("pps", options.pps)
    if options.mbps is not None:
        return Pacer("mbps", options.mbps)
    return Pacer("recorded", options.speed or 1.0, options.gap_limit_s)


def _editor(options: ReplayOptions) -> Any:
    wanted = (options.dst_mac, options.src_mac, options.vlan, options.map_ip, options.seed)
    if not any(wish is not None and wish != () for wish in wanted):
        return lambda packets: packets
    rewriter = Rewriter(
        dst_mac=options.dst_mac,
        src_mac=options.src_mac,
        vlan=options.vlan,
        map_ip=options.map_ip,
        seed=options.seed,
        pad=options.pad,
    )

    def edit(packets: PacketSet) -> PacketSet:
        rewriter.apply(packets)
        return packets

    return edit
