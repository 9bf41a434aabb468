"""Packets to look at as they arrive on interfaces: copies of them, the host keeps its own.

Mirror mode's program and rings, without a recorder: what is in the rings is handed out at
once, all queues in order of time. While whoever looks is slower than the packets, the
rings fill, and what they have no room for is counted.
Owner: the main thread. Frees: `close()`, idempotent; the kernel undoes all of it when the
process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from xdpcap import net
from xdpcap.host import kernel, privileges
from xdpcap.inspect.file_source import BATCH, Seen
from xdpcap.inspect.live_rings import HOLD_NS, LiveRings
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import KIB, MIB
from xdpcap.packets.filter import ETHERNET, OLDEST_KERNEL, PacketFilter
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.record.capture import utc_offset_ns
from xdpcap.record.ledger import QueueAccount, total
from xdpcap.record.mirror_attachment import MirrorAttachment
from xdpcap.record.nic_attachment import NicAttachment
from xdpcap.rings.copy_rings import CopyRing

# All rings together, unless there are so many queues that each would get less than LEAST.
RINGS_BYTES = 32 * MIB
LEAST_RING_BYTES = 512 * KIB
HOLD_S = HOLD_NS / 1e9
# Perf rings wake nobody, so they are looked into this often.
PERF_LOOK_MS = 5
OFFSET_EVERY_S = 1.0


class LiveSource:
    """What arrives on the interfaces of `options`, as a `packet_source.PacketSource`.

    `output_fd` is where the packets go in the end: when nobody reads there any more,
    `batches` raises BrokenPipeError at once and not with the next packet. `stop_fd` is readable
    when a signal has come, whose handler then ends the waiting. `on_nic`: the NICs run the
    program themselves. UsageError and KernelError leave nothing attached.
    """

    def __init__(
        self,
        options: RecordOptions,
        output_fd: int,
        stop_fd: int | None = None,
        *,
        on_nic: bool = False,
    ) -> None:
        self.damage: list[str] = []
        self._attachments: list[MirrorAttachment] = []
        # By the number of their ring.
        self._queues: list[tuple[str, int | None]] = []
        self._on_nic = on_nic
        options.validate()
        self._filter = None if options.filter is None else PacketFilter(options.filter)
        # A device would have to know all instructions of a filter.
        in_program = kernel.version() >= OLDEST_KERNEL and not on_nic
        self._program_filter = self._filter if in_program else None
        privileges.require_descriptors()
        privileges.require()
        privileges.raise_memlock()
        with contextlib.ExitStack() as stack:
            self._watch = stack.enter_context(contextlib.closing(net.LinkWatch()))
            links = [net.get_link(name) for name in options.interfaces]
            for link in links:
                net.require_up(link, options.netns)
            options = _with_rings(options)
            for link in links:
                self._attach(stack, options, link)
            rings = [a.source(queue) for a in self._attachments for queue in a.queues]
            look = LiveRings(rings, self._attachments[0].variant.clock)
            self._look = stack.enter_context(contextlib.closing(look))
            if self._filter is not None and not in_program:
                self._look.filter_by(Interpreter(self._filter.compiled.instructions))
            self._make_poller(rings, output_fd)
            if stop_fd is not None:
                self._poller.register(stop_fd, select.POLLIN)
            for attachment in self._attachments:
                attachment.start()
            self._stack = stack.pop_all()

    # -- set-up ---------------------------------------------------------------------------

    def _attach(self, stack: contextlib.ExitStack, options: RecordOptions, link: net.Link) -> None:
        if options.promiscuous:
            stack.enter_context(net.Promiscuous(link.name))
        attachment = self._attachment(options, link)
        stack.callback(attachment.close)
        self._attachments.append(attachment)
        queues = (None,) if self._on_nic else attachment.queues
        self._queues += [(link.name, queue) for queue in queues]

    def _attachment(self, options: RecordOptions, link: net.Link) -> MirrorAttachment:
        if self._on_nic:
            return NicAttachment(options, link)
        # Read before attaching: virtio_net shows more queues while a program is on.
        queue_count = net.rx_queue_count(link.name)
        queues = net.choose_queues(link.name, options.queues)
        return MirrorAttachment(
            options, link, queues, queue_count, packet_filter=self._program_filter
        )

    def _make_poller(self, rings: Sequence[CopyRing], output_fd: int) -> None:
        self._poller = select.poll()
        self._output_fd = output_fd
        # Asked for nothing, a pipe still tells that its reader has gone (POLLERR).
        self._poller.register(output_fd, 0)
        self._poller.register(self._watch.fileno(), select.POLLIN)
        self._look_ms = None if all(ring.fd >= 0 for ring in rings) else PERF_LOOK_MS
        for ring in rings:
            if ring.fd >= 0:
                self._poller.register(ring.fd, select.POLLIN)

    @property
    def opening(self) -> str:
        """What is looked at and how, one line."""
        shown = []
        for attachment in self._attachments:
            count = len(attachment.queues)
            queues = "1 queue" if count == 1 else f"{count} queues"
            if self._on_nic:
                queues = "all queues"
            shown.append(f"{attachment.link.name} ({attachment.attach_mode}, {queues})")
        return f"looking at {', '.join(shown)}; packets stay with the host, Ctrl-C stops"

    # -- looking ----------------------------------------------------------------------------

    @property
    def read_count(self) -> int:
        """Packets so far, those that the filter left out included."""
        return int(self._look.packet_count)

    def batches(self) -> Iterator[list[Seen]]:
        """The packets that the filter takes, by their times, until an interface goes away."""
        queues = self._queues
        clock = self._attachments[0].variant.clock
        offset_ns, measured_s = 0, -OFFSET_EVERY_S
        while True:
            if time.monotonic() - measured_s >= OFFSET_EVERY_S:
                offset_ns, measured_s = utc_offset_ns(clock), time.monotonic()
            packets = self._look.read(BATCH, offset_ns)
            if packets:
                yield [
                    Seen(name, queue, ts_ns, ETHERNET, len(data), origlen, data)
                    for ring, ts_ns, origlen, data in packets
                    for name, queue in (queues[ring],)
                ]
            elif self.damage:
                return
            else:
                self._wait()

    def _wait(self) -> None:
        """Sleep until there is something to look at, or to tell."""
        held = self._look.waiting > 0
        if held:
            # poll() would return at once.
            time.sleep(HOLD_S)
        for fd, event in self._poller.poll(0 if held else self._look_ms):
            if fd == self._output_fd and event & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if fd == self._watch.fileno():
                self._watch_links()

    def _watch_links(self) -> None:
        links = {attachment.link.index: attachment.link for attachment in self._attachments}
        for event in self._watch.read():
            link = links.get(event.index)
            if link is None or (event.up and not event.deleted):
                continue
            # What is deleted goes down first.
            what = "went down" if net.is_there(link) else "was deleted"
            self.damage = [f"{link.name} {what}; what had arrived until then was shown"]

    # -- end ----------------------------------------------------------------------------------

    def ledger(self, shown: int) -> QueueAccount:
        """Take the programs off, and say what became of the packets, `shown` of them shown."""
        rows = []
        for attachment in self._attachments:
            attachment.detach()
            for queue in attachment.queues:
                row = QueueAccount(attachment.link.name, queue)
                attachment.count(row)
                rows.append(row)
        summary = total(rows)
        # What was filtered here and not by the program, as if that had done it.
        summary.mirrored -= int(self._look.left_out_count)
        summary.filtered += int(self._look.left_out_count)
        summary.written = shown
        return summary.settle(final=False)

    def close(self) -> None:
        """Detach, and let go of everything; safe to call again."""
        self._stack.close()


def _with_rings(options: RecordOptions) -> RecordOptions:
    """The options with the size of each queue's ring."""
    count = sum(len(net.choose_queues(name, options.queues)) for name in options.interfaces)
    share = RINGS_BYTES >> (count - 1).bit_length()
    return replace(options, mirror_size_bytes=max(share, LEAST_RING_BYTES))
