"""The host before a recording: which interfaces it may have, and what is set on them meanwhile.

Nothing here is attached; what is changed is put back by the guardian that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdpcap import net
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.host import kernel
from xdpcap.net.guardian import Guardian
from xdpcap.net.offloads import OffloadFixes
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.options.record import RecordOptions
from xdpcap.packets.filter import PacketFilter
from xdpcap.programs.timestamp_source import stamping_change, time_stamps_refused


def admitted(options: RecordOptions, name: str, packet_filter: PacketFilter | None) -> net.Link:
    """The interface, unless recording it would do harm; raises UsageError with the reason."""
    link = net.get_link(name)
    # What is only copied stays with the host.
    if not (options.force or options.copies):
        reason = net.refusal(name, takes=_taken_by(packet_filter))
        if reason is not None:
            raise UsageError(reason)
    net.require_up(link, options.netns)
    return link


def _taken_by(packet_filter: PacketFilter | None) -> Callable[[bytes], bool] | None:
    """Whether a packet is taken from the host; None when all of them are."""
    if packet_filter is None or packet_filter.unmatched == "drop":
        return None
    return packet_filter.compiled.matches


def prepare(options: RecordOptions, links: Sequence[net.Link], guardian: Guardian) -> None:
    """Set on the interfaces what was asked for; raises XdpcapError where that can't be had."""
    # What is refused, before anything is changed.
    stamping = [change for link in links if (change := stamping_change(options, link))]
    if options.fix_offloads:
        guardian.make(OffloadFixes(_spoilers(options, links), options.netns))
    if options.rss == "symmetric":
        for link in links:
            guardian.make(net.SymmetricRss(link.name))
    for change in stamping:
        try:
            guardian.make(change)
        except XdpcapError as exc:
            raise time_stamps_refused(options, str(exc)) from None


def _spoilers(options: RecordOptions, links: Sequence[net.Link]) -> list[net.Spoiler]:
    frame_size = chosen_frame(options.frame_size)
    multi_buffer = kernel.has_multi_buffer()
    return [
        spoiler
        for link in links
        for spoiler in net.spoilers(link, options.attach, frame_size, multi_buffer, options.netns)
    ]
