"""MAC addresses, prefixes and VLAN edits as people write them.

Every error is a `UnitError` (a `ValueError`) whose text is one line. IPv6
addresses may stand in brackets, and must where the colons leave it open what
belongs to which side.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from xdpcap.options.units import UnitError

Network = IPv4Network | IPv6Network

# 0 is a tag with a priority only, 4095 is reserved (IEEE 802.1Q).
MAX_VLAN_ID = 4094

_MAC = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{12}", re.I)
_DOTTED_MAC = re.compile(r"[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}", re.I)
_VLAN = re.compile(r"(add:)?([0-9]{1,5})", re.ASCII)


class VlanEdit(NamedTuple):
    """What becomes of a packet's outermost VLAN tag: `what` is "add", "del" or "set"."""

    what: str
    vlan_id: int | None


def parse_mac(text: str) -> bytes:
    """6 bytes from ``02:00:00:00:00:01``, with dashes or without, or ``0200.0000.0001``."""
    stripped = text.strip()
    if not (_MAC.fullmatch(stripped) or _DOTTED_MAC.fullmatch(stripped)):
        raise UnitError(f"{text!r} is not a MAC address such as 02:00:00:00:00:01")
    return bytes.fromhex(re.sub(r"[:.-]", "", stripped))


def format_mac(mac: bytes) -> str:
    """``02:00:00:00:00:01``."""
    return mac.hex(":")


def parse_prefix(text: str) -> Network:
    """A network from ``10.0.0.0/8``, ``2001:db8::/32`` or a single address.

    Bits beyond the prefix are refused: they are mostly typing errors.
    """
    bare = re.sub(r"^\[([0-9A-Fa-f:.]+)\]", r"\1", text.strip())
    try:
        return ip_network(bare)
    except ValueError:
        pass
    try:
        near = ip_network(bare, strict=False)
    except ValueError:
        raise UnitError(f"{text!r} is not a prefix such as 10.0.0.0/8") from None
    raise UnitError(f"{text!r} has bits beyond its prefix, write {near}")


def parse_prefix_list(text: str) -> tuple[Network, ...]:
    """Networks from ``10.0.0.0/8,192.168.0.0/16``."""
    return tuple(parse_prefix(part) for part in text.split(","))


def parse_prefix_map(text: str) -> tuple[Network, Network]:
    """Two networks of one family from ``10.1.0.0/16:192.168.0.0/16``."""
    found = set()
    for colon in (i for i, letter in enumerate(text) if letter == ":"):
        try:
            pair = parse_prefix(text[:colon]), parse_prefix(text[colon + 1 :])
        except UnitError:
            continue
        if pair[0].version == pair[1].version:
            found.add(pair)
    if len(found) > 1:
        raise UnitError(f"{text!r} can be read in several ways, put addresses in brackets")
    if not found:
        raise UnitError(
            f"{text!r} is not a pair of prefixes such as 10.1.0.0/16:192.168.0.0/16, "
            "both IPv4 or both IPv6"
        )
    return found.pop()


def parse_vlan(text: str) -> VlanEdit:
    """The edit from ``add:100``, ``del`` or ``100``."""
    if text == "del":
        return VlanEdit("del", None)
    match = _VLAN.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a VLAN edit, use add:ID, del or ID")
    if int(match[2]) > MAX_VLAN_ID:
        raise UnitError(f"{text!r}: a VLAN ID is at most {MAX_VLAN_ID}")
    return VlanEdit("add" if match[1] else "set", int(match[2]))
