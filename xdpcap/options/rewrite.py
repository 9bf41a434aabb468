"""What a rewriter is asked for, taken apart and checked.

Every error is a `UsageError`, one line: the option, the cause, and the way out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdpcap.errors import UsageError
from xdpcap.options.addresses import Network, VlanEdit, parse_mac, parse_prefix_map, parse_vlan
from xdpcap.options.units import UnitError

MAX_SEED = (1 << 63) - 1


@dataclass(frozen=True)
class RewriteRules:
    """Edits of every packet; None and () leave it as it is.

    `maps` are pairs of prefixes of one length and family, the longest first: the first
    that an address lies in is its own.
    """

    dst_mac: bytes | None
    src_mac: bytes | None
    vlan: VlanEdit | None
    maps: tuple[tuple[Network, Network], ...]
    seed: int | None


def parse_rules(
    dst_mac: bytes | str | None = None,
    src_mac: bytes | str | None = None,
    vlan: str | None = None,
    map_ip: Iterable[str] = (),
    seed: int | None = None,
) -> RewriteRules:
    """The rules from options as they are written, or as `ReplayOptions` holds them.

    A MAC address is 6 bytes or text; `vlan` is ``add:ID``, ``del`` or ``ID``, `map_ip`
    holds ``CIDR:CIDR``.  Raises UsageError.
    """
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(f"--seed {seed}: must be from 0 to {MAX_SEED}; choose another number")
    return RewriteRules(
        _mac("--dst-mac", dst_mac),
        _mac("--src-mac", src_mac),
        None if vlan is None else _vlan(vlan),
        _maps(map_ip),
        seed,
    )


def _mac(option: str, mac: bytes | str | None) -> bytes | None:
    if isinstance(mac, str):
        try:
            return parse_mac(mac)
        except UnitError as error:
            raise UsageError(f"{option}: {error}; write six pairs of hex digits") from None
    if mac is not None and len(mac) != 6:
        raise UsageError(f"{option}: {len(mac)} bytes; a MAC address has 6")
    return mac


def _vlan(text: str) -> VlanEdit:
    try:
        return parse_vlan(text)
    except UnitError as error:
        raise UsageError(f"--vlan: {error}; for example --vlan add:100") from None


def _maps(texts: Iterable[str]) -> tuple[tuple[Network, Network], ...]:
    pairs = [_map(text) for text in texts]
    sources = [source for source, _ in pairs]
    for source in sources:
        if sources.count(source) > 1:
            raise UsageError(f"--map-ip: {source} is mapped twice; map each prefix once")
    return tuple(sorted(pairs, key=lambda pair: -pair[0].prefixlen))


def _map(text: str) -> tuple[Network, Network]:
    try:
        source, target = parse_prefix_map(text)
    except UnitError as error:
        example = "--map-ip 10.0.0.0/8:192.0.0.0/8"
        raise UsageError(f"--map-ip: {error}; for example {example}") from None
    if source.prefixlen != target.prefixlen:
        raise UsageError(
            f"--map-ip {text}: prefixes of /{source.prefixlen} and /{target.prefixlen}; "
            "give both one length, so that each address has its own"
        )
    return source, target
