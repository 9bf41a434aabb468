"""The start-up report of one interface: what an attachment was granted, read back."""

from __future__ import annotations

import os
import re

from xdpcap import net
from xdpcap.options.frame_sizes import chosen_frame
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import format_size
from xdpcap.record.attachment import Attachment
from xdpcap.record.startup import StartupReport

CLOCK_TEXT = {
    "tai": "CLOCK_TAI, to UTC every second",
    "monotonic": "CLOCK_MONOTONIC, to UTC every second",
    "realtime": "CLOCK_REALTIME",
}


def startup_report(options: RecordOptions, attachment: Attachment) -> StartupReport:
    """What the kernel granted to a recording of `options`, and what will spoil it."""
    link, variant, device = attachment.link, attachment.variant, attachment.device_time
    queues = attachment.queue_modes()
    found = net.spoilers(
        link,
        attachment.attach_mode,
        chosen_frame(options.frame_size) if options.copies else attachment.frame_size,
        all(q.multi_buffer for q in queues),
        options.netns,
        queue_count=attachment.queue_count,
        tags_told=attachment.metadata.vlan_tags,
    )
    return StartupReport(
        interface=link.name,
        driver=link.driver,
        attach_mode=attachment.attach_mode,
        queues=queues,
        queue_count=attachment.queue_count,
        mtu=link.mtu,
        clock=CLOCK_TEXT[variant.clock] if device is None else device.description,
        metadata=variant.stamped_by if device is None else "device",
        time_stamp_type=attachment.metadata.time.type,
        why_host=attachment.metadata.time.why_host,
        program=f"{variant.program} of {variant.path}" if variant.foreign else "",
        counted_by="program" if attachment.program.has_counters else "worker",
        kernel=os.uname().release,
        memory=_memory_line(options, attachment),
        mode=attachment.mode,
        sample=_sample_line(options),
        filter=str(attachment.packet_filter or ""),
        packets=attachment.metadata.summary(),
        rss=_rss_line(options, link),
        spoilers=[(spoiler.why, spoiler.command) for spoiler in found],
    )


def _sample_line(options: RecordOptions) -> str:
    if options.sample == 1:
        return ""
    what = "packet" if options.sample_by == "count" else "flow"
    return f"one {what} in {options.sample}; the rest stays with the host"


def _rss_line(options: RecordOptions, link: net.Link) -> str:
    """Read back, since attaching a program may make a driver set up its queues anew."""
    if options.rss == "keep":
        return ""
    found = net.rss(link.name)
    if found is None or not found.symmetric:
        return "the driver has gone back to a hash that is not symmetric"
    return "symmetric: both directions of a connection come to one queue"


def _memory_line(options: RecordOptions, attachment: Attachment) -> str:
    if options.copies:
        kind = "perf rings" if attachment.variant.perf else "a ring buffer"
        return f"{kind} of {_spaced_size(options.mirror_size_bytes)} a queue"
    text = (
        f"{_spaced_size(options.umem_size_bytes)} a queue, "
        f"frames of {attachment.frame_size} bytes, rings of {attachment.ring_size}"
    )
    if not options.hugepages:
        return text
    if attachment.hugepages:
        return f"{text}, huge pages"
    return f"{text}, no huge pages free (`sysctl vm.nr_hugepages=N`)"


def _spaced_size(size_bytes: int) -> str:
    """``64 MiB``: exact, as the option takes it, and spaced as prose."""
    return re.sub(r"(?<=\d)(?=[A-Za-z])", " ", format_size(size_bytes))
