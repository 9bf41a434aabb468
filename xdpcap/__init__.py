"""AF_XDP packet capture to pcap and pcapng files, and AF_XDP rings from Python.

`Umem`, `Xsk` and `Program` are the library: memory, a socket on one queue, and the XDP
program that feeds it.  All are context managers; close sockets before their memory.

    with Program(path, queue_count=1) as program, Umem(1 << 22) as umem:
        program.attach(ifindex, "native")
        with Xsk(umem, "eth1", 0) as xsk:
            umem.populate_fill()
            program.bind_queue(0, xsk.fd)
            packets = xsk.receive(64, timeout_ms=100)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdpcap.programs.program import Program
    from xdpcap.rings.umem import Umem
    from xdpcap.rings.xsk import Xsk

__version__ = "0.1.0"
__all__ = ["Program", "Umem", "Xsk", "__version__"]

_HOMES = {
    "Program": "xdpcap.programs.program",
    "Umem": "xdpcap.rings.umem",
    "Xsk": "xdpcap.rings.xsk",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `xdpcap --help` needs no compiled module and no libbpf.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'xdpcap' has no attribute {name!r}")
