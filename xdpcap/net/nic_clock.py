"""The clock of a NIC, /dev/ptpN: it stamps packets by it, and may send them by it.

Source relied on: Documentation/driver-api/ptp.rst.
"""

from __future__ import annotations

import os

from xdpcap import net
from xdpcap.errors import KernelError, XdpcapError
from xdpcap.host.clocks import Ahead, dynamic_clock


class HardwareClock:
    """The PTP hardware clock of an interface: `id` for clock_gettime(2), until `close()`.

    Raises XdpcapError where there is none, KernelError where it can't be opened.
    """

    def __init__(self, interface: str) -> None:
        number = net.ptp_clock(interface)
        if number is None:
            raise XdpcapError(f"{interface} has no PTP hardware clock")
        self.path = f"/dev/ptp{number}"
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise KernelError(f"open({self.path})", exc.errno or 0) from exc
        self.id: int = dynamic_clock(self._descriptor)

    def ahead_ns(self) -> int:
        """By what it is ahead of UTC now; KernelError where it can't be read."""
        return int(Ahead(self.id).measure())

    def close(self) -> None:
        """Close the device; safe to call again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
