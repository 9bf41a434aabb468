"""How the start-up report reads: a few aligned lines an interface, spoilers last."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from xdpcap.cli.glyphs import Glyphs
from xdpcap.options.units import format_number_list
from xdpcap.record.startup import QueueMode, StartupReport

LABEL_WIDTH = 9
STAMPED_BY = {
    "program": "one stamp a packet, by the XDP program",
    "device": "one stamp a packet, by the NIC; by the XDP program where it gives none",
    "software": "stamped by the worker when it takes the packet",
    "custom": "by the program where it writes struct xdpcap_meta, else by the worker",
}
COUNTED_BY_WORKER = "counted in user space: what the program passes or drops is not seen"


def startup_lines(startup: StartupReport, glyphs: Glyphs) -> list[Text]:
    """The start-up report, line by line; no line is wrapped, so that its commands can be copied."""
    lines = [
        headline(
            startup.interface,
            f"{startup.driver or 'unknown driver'}, MTU {startup.mtu}, Linux {startup.kernel}",
        ),
        labelled("attach", Text(startup.attach_mode)),
    ]
    if startup.program:
        texts = [Text(f"{startup.program}, in place of xdpcap's")]
        if startup.counted_by == "worker":
            texts.append(Text(COUNTED_BY_WORKER, style="yellow"))
        lines += _labelled("program", texts)
    lines += _labelled("queues", _queues(startup))
    if startup.mode:
        lines.append(labelled("mode", Text(startup.mode)))
    if startup.sample:
        lines.append(labelled("sample", Text(startup.sample)))
    lines.append(labelled("memory", Text(startup.memory)))
    stamped = STAMPED_BY.get(startup.metadata, startup.metadata)
    clock = [Text(f"{startup.clock}, {stamped}")]
    if startup.why_host:
        clock.append(Text(f"not the NIC's time: {startup.why_host}", style="dim"))
    lines += _labelled("clock", clock)
    if startup.filter:
        lines.append(labelled("filter", Text(startup.filter)))
    if startup.rss:
        lines.append(labelled("RSS", Text(startup.rss)))
    if startup.packets:
        lines.append(labelled("packets", Text(startup.packets)))
    return lines + warning_lines(startup.spoilers, glyphs)


def headline(interface: str, text: str) -> Text:
    """The interface and what it is, above its labelled lines."""
    return Text.assemble((f"{interface:<{LABEL_WIDTH}}", "bold"), f"  {text}")


def labelled(label: str, text: Text) -> Text:
    """One line of the block below an interface's name."""
    return Text.assemble("  ", (f"{label:<{LABEL_WIDTH - 2}}", "dim"), "  ", text)


def warning_lines(warnings: Sequence[tuple[str, str]], glyphs: Glyphs) -> list[Text]:
    """What will go wrong, each with the command that mends it if there is one."""
    lines = []
    for why, command in warnings:
        lines.append(Text.assemble(("  " + glyphs.warning + " ", "bold yellow"), (why, "yellow")))
        if command:
            lines.append(Text.assemble("    mend: ", (command, "bold")))
    return lines


def _labelled(label: str, texts: Sequence[Text]) -> list[Text]:
    """`texts` one below the other, the first with the label."""
    return [labelled(label if i == 0 else "", text) for i, text in enumerate(texts)]


def _queues(startup: StartupReport) -> list[Text]:
    """How many of how many, then those that are bound alike together."""
    covered, count = startup.queues_covered, startup.queue_count
    whole = f"{covered} of {count}"
    texts = [Text(whole)]
    if covered < count:
        texts = [
            Text.assemble(
                (whole, "yellow"),
                ": packets of the others stay with the kernel and are in no file",
            )
        ]
    kinds: dict[tuple[bool, bool], list[QueueMode]] = {}
    for queue in startup.queues:
        kinds.setdefault((queue.zero_copy, queue.multi_buffer), []).append(queue)
    for (zero_copy, multi_buffer), queues in kinds.items():
        numbers = format_number_list(queue.queue for queue in queues)
        texts.append(
            Text.assemble(
                f"{numbers}: ",
                ("zero-copy", "green") if zero_copy else ("copy", "yellow"),
                ", multi-buffer" if multi_buffer else ", one frame a packet",
            )
        )
    if len(kinds) == 1 and covered == count:
        # The usual case in one line: all queues alike.
        return [Text.assemble(f"{whole} ", *texts[1].split(": ")[1:])]
    return texts
