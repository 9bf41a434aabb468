"""Where to listen, as it is written on the command line: `9108`, `10.0.0.5:9108`, `[::1]:9108`."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

LOOPBACK = "127.0.0.1"


class ListenAddress(NamedTuple):
    """An IP address of this machine, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """An address and a port; without an address the loopback's.  Raises ValueError.

    Names are not looked up, but for localhost: what one is bound to must not depend on a server.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon:
        host, port_text = "", text
    if not (port_text.isascii() and port_text.isdecimal() and 0 < int(port_text) < 1 << 16):
        raise ValueError(f"{text!r} has no port from 1 to 65535; write 9108, or 127.0.0.1:9108")
    if host in ("", "localhost"):
        return ListenAddress(LOOPBACK, int(port_text))
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        version = ipaddress.ip_address(inner).version
    except ValueError:
        raise ValueError(
            f"{host!r} is no IP address; write one such as 127.0.0.1 or [::1]"
        ) from None
    if (version == 6) != (inner != host):
        raise ValueError(f"{text!r}: an IPv6 address, and no other, stands in brackets: [::1]:9108")
    return ListenAddress(inner, int(port_text))
