"""Bytes in hexadecimal, in the layout of tcpdump's -x and -X.

Source relied on: print-ascii.c of tcpdump 4.99: sixteen bytes a line after a tab and their
offset, in groups of two; with ASCII, a dot for what can't be printed.
"""

from __future__ import annotations

from collections.abc import Iterator

_LINE_BYTES = 16
# Eight groups of a space and four digits.
_HEX_WIDTH = 40
_PRINTABLE = bytes(byte if 33 <= byte <= 126 else ord(".") for byte in range(256))


def hex_lines(data: bytes, *, ascii_too: bool = False) -> Iterator[str]:
    """Lines without line ends; none for no bytes."""
    for offset in range(0, len(data), _LINE_BYTES):
        line = data[offset : offset + _LINE_BYTES]
        # Groups are counted from the right where hex() is asked for pairs, hence the minus.
        digits = f" {line.hex(' ', -2)}"
        if ascii_too:
            text = line.translate(_PRINTABLE).decode("ascii")
            digits = f"{digits:<{_HEX_WIDTH}}  {text}"
        yield f"\t0x{offset:04x}: {digits}"
