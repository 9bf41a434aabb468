"""What a packet says: bytes into layers, layers into text, JSON fields and hex.

Pure functions for any thread; nothing to free. Whatever the bytes, nothing is raised, and
the work is bounded by a number of headers.

`walk` has the steps, `link`, `network` and `transport` the headers, `layers` what comes out;
`text`, `fields`, `hexdump` and `times` show it.
"""

from __future__ import annotations

from xdpcap.packets.dissect import link, network, transport
from xdpcap.packets.dissect.layers import Dissection, Layer, Payload
from xdpcap.packets.dissect.numbers import ethertype_name, ip_protocol_name
from xdpcap.packets.dissect.walk import IP_PROTOCOL, LINK, MOST_STEPS, Dissector, Walk

__all__ = ["Dissection", "Layer", "dissect"]

# Of a packet of which nothing else is known.
_SHOWN_BYTES = 16

_TABLE: dict[int, Dissector] = {**link.TABLE, **network.TABLE, **transport.TABLE}


def dissect(linktype: int, data: bytes, origlen: int) -> Dissection:
    """The layers of a packet.

    `linktype` is libpcap's number (DLT), `data` what was captured of `origlen` bytes on the
    wire. Never raises; a header that is not all there ends the layers with a `Cut`.
    """
    walk = Walk(data, len(data), max(origlen, len(data)), [])
    key = LINK + linktype
    at = 0
    for _ in range(MOST_STEPS):
        dissector = _TABLE.get(key)
        if dissector is None:
            break
        following = dissector(walk, at)
        if following is None:
            return Dissection(walk.layers, walk.link_bytes)
        key, at = following
    walk.layers.append(Payload(_name(key, data), max(walk.wire_end - at, 0)))
    return Dissection(walk.layers, walk.link_bytes)


def _name(key: int, data: bytes) -> str:
    """What a header that no dissector knows is called; of a whole packet, how it begins."""
    if key < IP_PROTOCOL:
        return ethertype_name(key)
    if key < LINK:
        return ip_protocol_name(key - IP_PROTOCOL)
    return f"linktype {key - LINK} {data[:_SHOWN_BYTES].hex(' ', -2)}".rstrip()
