"""A packet's layers as fields of JSON, under names that stay.

Each layer is an object with `protocol` and the fields of its class in `layers`, documented
in docs/dump.md; addresses are text, flags are words.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from xdpcap.packets.dissect.layers import Chunk, Icmp, Layer, Sctp, Tcp
from xdpcap.packets.dissect.numbers import ICMP_TYPES, ICMPV6_TYPES, SCTP_CHUNKS
from xdpcap.packets.dissect.text import address, tcp_flags, tcp_options

_NAMES: dict[type, tuple[str, ...]] = {}


def layer_fields(layer: Layer) -> dict[str, Any]:
    """One layer's object."""
    kind = type(layer)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    shown: dict[str, Any] = {"protocol": layer.protocol}
    for name in names:
        value = getattr(layer, name)
        shown[name] = address(value) if type(value) is bytes and name != "options" else value
    if kind in _SPECIAL:
        shown.update(_SPECIAL[kind](layer))
    return shown


def _tcp(layer: Tcp) -> dict[str, Any]:
    return {"flags": tcp_flags(layer.flags), "options": tcp_options(layer.options)}


def _icmp(layer: Icmp) -> dict[str, Any]:
    names = ICMP_TYPES if layer.version == 4 else ICMPV6_TYPES
    return {"name": names.get(layer.type), "target": address(layer.target) or None}


def _sctp(layer: Sctp) -> dict[str, Any]:
    return {"chunks": [_chunk(chunk) for chunk in layer.chunks]}


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "type": chunk.type,
        "name": SCTP_CHUNKS.get(chunk.type),
        "number": chunk.number,
    }


_SPECIAL: dict[type[Layer], Any] = {Tcp: _tcp, Icmp: _icmp, Sctp: _sctp}
