"""The recording session: the order of set-up and tear-down, and nothing else.

Everything that changes the host is on one ExitStack, so that it is undone in reverse
whatever happens; the program comes off before the sockets close.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Protocol

from xdpcap import net
from xdpcap.errors import XdpcapError
from xdpcap.host import kernel, privileges
from xdpcap.host.threads import end_process
from xdpcap.host.wakeups import Wakeups
from xdpcap.net import netns
from xdpcap.net.guardian import Guardian
from xdpcap.options.record import RecordOptions
from xdpcap.packets.filter import OLDEST_KERNEL, PacketFilter
from xdpcap.programs.dead_man import RENEWALS_PER_TIMEOUT
from xdpcap.record.attachment import Attachment, require_memory
from xdpcap.record.capture import SharedLimit
from xdpcap.record.interface import InterfaceRecorder
from xdpcap.record.ledger import QueueAccount, merged, total
from xdpcap.record.mirror_attachment import MirrorAttachment
from xdpcap.record.observer_attachment import ObserverAttachment
from xdpcap.record.outputs import Described, DirectoryOutput, PipeOutput, open_output
from xdpcap.record.prepare import admitted, prepare
from xdpcap.record.publish import Publisher
from xdpcap.record.report import make_report
from xdpcap.record.startup import StartupReport
from xdpcap.record.startup_checks import startup_report
from xdpcap.savefile.rotation import RotationClock

log = logging.getLogger(__name__)


class SessionUi(Protocol):
    """What the session needs of its terminal side."""

    def startup(self, report: StartupReport) -> None: ...
    def start(self) -> None: ...
    def tick(
        self,
        accounts: list[QueueAccount],
        totals: QueueAccount,
        elapsed_s: float,
        disk_rate_bytes: float,
    ) -> None: ...
    def message(self, text: str) -> None: ...
    def finish(self, report: dict[str, Any]) -> None: ...


def record_session(options: RecordOptions, ui: SessionUi) -> int:
    """Record as `options` says until told to stop; returns the exit code.

    0 when everything received is in the files or was counted as wished, 1 when
    something went wrong on the way; XdpcapError when it could not begin.
    """
    options.validate()
    kernel.require((4, 18), "AF_XDP")
    kernel.require_af_xdp()
    if options.dead_man_s is not None:
        kernel.require((5, 5), "--dead-man")
    if options.filter is not None:
        kernel.require(OLDEST_KERNEL, "a filter")
    with contextlib.ExitStack() as stack:
        return Session(options, ui, stack).run()


class Session:
    """One recording.  Owned by the main thread."""

    def __init__(self, options: RecordOptions, ui: SessionUi, stack: contextlib.ExitStack) -> None:
        self._options = options
        self._ui = ui
        self._stack = stack
        self._recorders: dict[str, InterfaceRecorder] = {}
        self._gone: dict[str, float] = {}
        self._retired: list[QueueAccount] = []
        self._hung = False
        self._uncovered: dict[str, int] = {}
        self._startups: dict[str, StartupReport] = {}
        self._problems: list[str] = []
        self._filter: PacketFilter | None = None
        self._limit: SharedLimit | None = None
        self._clock: RotationClock | None = None
        self._publisher: Publisher
        self._output: DirectoryOutput | PipeOutput
        self._wakeups: Wakeups
        self._link_watch: net.LinkWatch
        self._guardian: Guardian

    def run(self) -> int:
        """The whole life of the session."""
        options = self._options
        privileges.require_descriptors()
        self._publisher = Publisher(options.prometheus)
        self._stack.callback(self._publisher.close)
        if options.filter is not None:
            # Before the namespace is entered, in which names may not be found.
            self._filter = PacketFilter(options.filter, options.unmatched)
        if options.netns is not None:
            netns.enter(options.netns)
        privileges.require(options.umem_size_bytes)
        privileges.raise_memlock()
        if options.user is not None:
            privileges.check_user(options.user)
        links = [admitted(options, name, self._filter) for name in options.interfaces]
        sources = [
            (link.name, queue)
            for link in links
            for queue in net.choose_queues(link.name, options.queues)
        ]
        privileges.require_descriptors(len(sources))
        require_memory(options, len(sources))
        self._output = open_output(options, sources, self._ui.message)
        self._stack.callback(self._output.close)
        self._link_watch = net.LinkWatch()
        self._stack.callback(self._link_watch.close)
        self._wakeups = self._stack.enter_context(Wakeups(self._link_watch))
        self._guardian = self._stack.enter_context(Guardian())
        prepare(options, links, self._guardian)
        if options.count is not None or options.max_size_bytes is not None:
            self._limit = SharedLimit(options.count, options.max_size_bytes)
        attachments = [self._attach(link) for link in links]
        if options.user is not None:
            privileges.drop_to(options.user)
            self._output.check()
        self._describe(attachments)
        if options.rotate_interval_s is not None:
            # Before the first file begins, so that no boundary falls between the two.
            self._clock = RotationClock(
                options.rotate_interval_s, options.rotate_align, time.time_ns()
            )
        try:
            for interface_id, attachment in enumerate(attachments):
                self._make_recorder(interface_id, attachment)
        except BaseException:
            for recorder in self._recorders.values():
                recorder.discard()
            raise
        started = time.time()
        self._record()
        report = self._finish(started)
        self._ui.finish(report)
        # Several queues of one disk may have the same to tell.
        for problem in dict.fromkeys(self._problems):
            self._ui.message(problem)
        if self._hung:
            end_process()
        return 1 if self._problems or self._publisher.failed else 0

    # -- set-up ---------------------------------------------------------------------------

    def _attach(self, link: net.Link) -> Attachment:
        options = self._options
        # Read before attaching: virtio_net shows more queues while a program is on.
        queue_count = net.rx_queue_count(link.name)
        queues = net.choose_queues(link.name, options.queues)
        if options.promiscuous:
            self._stack.enter_context(net.Promiscuous(link.name))
        kind: type[Attachment] = Attachment
        if options.copies:
            kind = MirrorAttachment if options.mirror else ObserverAttachment
        attachment = kind(options, link, queues, queue_count, packet_filter=self._filter)
        self._stack.callback(attachment.close)
        self._publisher.show(attachment)
        # Unwound before the attachment is: then another recording may have the interface.
        self._stack.callback(self._publisher.hide, link.name)
        startup = startup_report(options, attachment)
        self._startups[link.name] = startup
        self._ui.startup(startup)
        return attachment

    def _describe(self, attachments: list[Attachment]) -> None:
        self._output.describe(Described(a.link, a.comments, a.tsoffset_s) for a in attachments)

    def _make_recorder(self, interface_id: int, attachment: Attachment) -> None:
        recorder = InterfaceRecorder(
            self._options,
            attachment,
            interface_id,
            self._output,
            limit=self._limit,
            notify=self._wakeups.notify,
        )
        # Unwound before the attachment is: a worker must not outlive its rings.
        self._stack.callback(self._abort, recorder)
        self._recorders[attachment.link.name] = recorder

    def _abort(self, recorder: InterfaceRecorder) -> None:
        """End a recorder that an exception has left running; nothing when it has ended."""
        for problem in recorder.abort():
            self._ui.message(problem)

    # -- recording ------------------------------------------------------------------------

    def _record(self) -> None:
        options = self._options
        for recorder in self._recorders.values():
            recorder.start()
        if not options.quiet:
            names = ", ".join(self._recorders)
            self._ui.message(f"recording {names} to {self._output.place}; Ctrl-C stops")
        self._ui.start()
        self._publisher.serve(self._wakeups.notify)
        clock = self._clock
        begun = last_tick = time.monotonic()
        disk_bytes = 0
        while not self._over(begun):
            self._wakeups.wait(self._next_deadline(begun, last_tick, clock))
            self._renew()
            self._watch_links()
            if self._publisher.asked:
                self._publisher.publish(self._accounts(), self._uncovered_so_far())
            if self._wakeups.take_hangup() or (clock is not None and clock.due(time.time_ns())):
                for recorder in self._recorders.values():
                    recorder.rotate()
            now = time.monotonic()
            if now - last_tick >= options.stats_interval_s:
                rows = self._accounts()
                summary = total(rows)
                rate = (summary.bytes_to_disk - disk_bytes) / (now - last_tick)
                disk_bytes, last_tick = summary.bytes_to_disk, now
                self._ui.tick(rows, summary, now - begun, rate)

    def _renew(self) -> None:
        """Tell each program that somebody is there who can stop it."""
        for recorder in self._recorders.values():
            lapse = recorder.renew()
            if lapse is not None:
                self._ui.message(lapse)

    def _over(self, begun: float) -> bool:
        if self._wakeups.stopped or self._problems:
            return True
        for recorder in self._recorders.values():
            self._problems += recorder.errors
        if self._problems or any(r.limit_reached for r in self._recorders.values()):
            return True
        duration = self._options.duration_s
        return duration is not None and time.monotonic() - begun >= duration

    def _next_deadline(self, begun: float, last_tick: float, clock: RotationClock | None) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        due = [last_tick + self._options.stats_interval_s - now]
        if self._options.dead_man_s is not None:
            due.append(self._options.dead_man_s / RENEWALS_PER_TIMEOUT)
        if self._options.duration_s is not None:
            due.append(begun + self._options.duration_s - now)
        if clock is not None:
            due.append((clock.deadline_ns - time.time_ns()) / 1e9)
        return max(min(due), 0.0)

    def _accounts(self, *, final: bool = False) -> list[QueueAccount]:
        """A row a queue, with what it counted before its interface was made anew."""
        rows = [row for r in self._recorders.values() for row in r.accounts(final=final)]
        return merged(self._retired, rows)

    def _uncovered_so_far(self) -> dict[str, int]:
        """Packets of queues without a socket, by interface."""
        now = {name: r.attachment.uncovered() for name, r in self._recorders.items()}
        return {name: self._uncovered.get(name, 0) + now.get(name, 0) for name in self._startups}

    # -- links ------------------------------------------------------------------------------

    def _watch_links(self) -> None:
        for event in self._link_watch.read():
            # By index: an interface may get another name, and its socket stays with it.
            indexes = {recorder.link.index: recorder for recorder in self._recorders.values()}
            if event.index in indexes:
                self._link_changed(event, indexes[event.index])
            elif event.name in self._gone and event.up:
                self._come_back(event.name)

    def _link_changed(self, event: net.LinkEvent, recorder: InterfaceRecorder) -> None:
        name = recorder.link.name
        # What is deleted goes down first, and is told of twice.
        if event.deleted or (not event.up and not net.is_there(recorder.link)):
            self._lose(name, "was deleted")
            self._retire(name)
        elif not event.up and name not in self._gone:
            self._lose(name, "went down")
            if self._options.wait_link:
                # The files so far are complete while it is away.
                recorder.rotate()
        elif event.up and name in self._gone:
            away = time.monotonic() - self._gone.pop(name)
            self._ui.message(f"{name} is back after {away:.1f} s; recording goes on")
        elif event.up and not event.carrier and not net.wait_for_carrier(name, 0.0):
            log.info("%s has no carrier", name)

    def _lose(self, name: str, what: str) -> None:
        self._gone[name] = time.monotonic()
        if self._options.wait_link:
            self._ui.message(f"{name} {what}; waiting for it to come back")
        else:
            self._problems.append(
                f"{name} {what} while recording; the files so far are complete, "
                "--wait-link waits for it"
            )

    def _retire(self, name: str) -> None:
        """Take down the recorder of an interface that has gone, keeping its account."""
        recorder = self._recorders.pop(name)
        self._publisher.hide(name)
        recorder.detach()
        self._problems += recorder.stop() + recorder.errors
        self._hung |= recorder.hung
        self._retired = merged(self._retired, recorder.accounts(final=True))
        self._uncovered[name] = self._uncovered.get(name, 0) + recorder.attachment.uncovered()
        recorder.close()

    def _come_back(self, name: str) -> None:
        """Record an interface that was deleted and made again."""
        away = time.monotonic() - self._gone.pop(name)
        interface_id = self._options.interfaces.index(name)
        try:
            link = net.get_link(name)
            # It is another device now, set as it was made.
            prepare(self._options, [link], self._guardian)
            attachment = self._attach(link)
            if not self._options.to_stdout:
                self._describe([attachment])
            self._make_recorder(interface_id, attachment)
        except XdpcapError as exc:
            self._problems.append(f"{name} is back, but: {exc}")
            return
        self._recorders[name].start()
        self._ui.message(f"{name} is back after {away:.1f} s; recording goes on")

    # -- end ----------------------------------------------------------------------------------

    def _finish(self, started: float) -> dict[str, Any]:
        """Stop everything in the order that loses nothing; returns the report."""
        self._publisher.hide_all()
        for recorder in self._recorders.values():
            recorder.detach()
        for recorder in self._recorders.values():
            self._problems += recorder.stop()
            self._hung |= recorder.hung
            self._problems += [e for e in recorder.errors if e not in self._problems]
        rows = self._accounts(final=True)
        self._publisher.publish(rows, self._uncovered_so_far())
        for name, recorder in self._recorders.items():
            self._uncovered[name] = self._uncovered.get(name, 0) + recorder.attachment.uncovered()
            self._tell_stamped(recorder)
            recorder.close()
        self._problems += self._output.finish(rows)
        files = self._output.files
        return make_report(rows, self._startups, self._uncovered, files=files, started_s=started)

    def _tell_stamped(self, recorder: InterfaceRecorder) -> None:
        """Say how many packets came without the metadata that could have been before them."""
        variant = recorder.attachment.variant
        count = sum(worker.stamped_by_worker for worker in recorder.workers)
        if not count or not variant.writes_time:
            return
        why = "the driver has no room before the packet"
        if variant.foreign:
            why = f"{variant.program} puts no struct xdpcap_meta before them"
        self._ui.message(
            f"{count} packets came without the program's metadata and were stamped by the worker "
            f"when it took them; {why}"
        )
