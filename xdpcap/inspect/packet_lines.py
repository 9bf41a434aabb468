"""From a packet to what is printed of it: a line with its time, hex below it, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from xdpcap.inspect.file_source import Seen
from xdpcap.options.dump import DumpOptions
from xdpcap.packets.dissect import Dissection, dissect
from xdpcap.packets.dissect.fields import layer_fields
from xdpcap.packets.dissect.hexdump import hex_lines
from xdpcap.packets.dissect.text import Style, packet_text
from xdpcap.packets.dissect.times import Clock, utc_text

Show = Callable[[Seen], str]


def shower(options: DumpOptions) -> Show:
    """What makes text, line ends included, of one packet after the other."""
    return _json_shower(options) if options.json else _text_shower(options)


def _text_shower(options: DumpOptions) -> Show:
    style = Style(options.link, options.quiet, options.verbose)
    time_text = Clock(options.time_style, 9 if options.nanoseconds else 6).text
    hexdump = options.hexdump

    def show(seen: Seen) -> str:
        packet = dissect(seen.linktype, seen.data, seen.origlen)
        line = f"{time_text(seen.ts_ns)}{packet_text(packet, seen.origlen, style)}\n"
        if options.link:
            line = _where(seen) + line
        if hexdump:
            data = _dumped(hexdump, seen.data, packet)
            dump = hex_lines(data, ascii_too=hexdump.isupper())
            line += "".join(f"{row}\n" for row in dump)
        return line

    return show


def _where(seen: Seen) -> str:
    """Interface and queue, as far as they are known."""
    parts = [seen.interface or "", "" if seen.queue is None else f"q{seen.queue}"]
    return "".join(f"{part} " for part in parts if part)


def _dumped(hexdump: str, data: bytes, packet: Dissection) -> bytes:
    """The bytes that are dumped: from the link header on, or from behind it."""
    return data if len(hexdump) == 2 else data[packet.link_bytes :]


def _json_shower(options: DumpOptions) -> Show:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    number = 0

    def show(seen: Seen) -> str:
        nonlocal number
        number += 1
        packet = dissect(seen.linktype, seen.data, seen.origlen)
        shown: dict[str, Any] = {
            "number": number,
            "time": utc_text(seen.ts_ns),
            "ts_ns": seen.ts_ns,
            "interface": seen.interface,
            "queue": seen.queue,
            "linktype": seen.linktype,
            "caplen": seen.caplen,
            "origlen": seen.origlen,
            "layers": [layer_fields(layer) for layer in packet.layers],
        }
        if options.hexdump:
            shown["data"] = _dumped(options.hexdump, seen.data, packet).hex()
        return f"{encode(shown)}\n"

    return show
