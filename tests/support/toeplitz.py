"""The hash that NICs use for RSS, bit by bit from its published definition, for tests.

Source relied on: Microsoft, "RSS Hashing Functions"; include/uapi/linux/ethtool.h for what
RXH_XFRM_SYM_XOR makes of the input.
"""

from __future__ import annotations

from ipaddress import ip_address

# The key that Microsoft published with the function.
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def toeplitz(data: bytes, key: bytes = KEY) -> int:
    """Each bit that is set adds the 32 bits of the key that begin at its place."""
    bits, key_bits = 8 * len(data), 8 * len(key)
    number, key_number = int.from_bytes(data, "big"), int.from_bytes(key, "big")
    result = 0
    for place in range(bits):
        if number >> (bits - 1 - place) & 1:
            result ^= key_number >> (key_bits - 32 - place) & 0xFFFFFFFF
    return result


def flow_input(source: str, target: str, ports: tuple[int, int] | None = None) -> bytes:
    """What an RSS hash is taken of: addresses, then ports."""
    addresses = ip_address(source).packed + ip_address(target).packed
    return addresses + b"".join(port.to_bytes(2, "big") for port in ports or ())


def symmetric_hash(source: str, target: str, ports: tuple[int, int] | None = None) -> int:
    """The hash of a flow as bpf/flow_hash.h defines it."""
    one, other = ip_address(source), ip_address(target)
    folded = (int(one) ^ int(other)).to_bytes(len(one.packed), "big") * 2
    if ports is not None:
        folded += (ports[0] ^ ports[1]).to_bytes(2, "big") * 2
    return toeplitz(folded)
