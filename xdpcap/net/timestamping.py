"""Whether a NIC stamps what it receives with its own clock, and having it do so until the end.

SIOCGHWTSTAMP and SIOCSHWTSTAMP (Documentation/networking/timestamping.rst, section 3.1) in the
calling thread's network namespace; setting needs CAP_NET_ADMIN.  What a driver does not have reads
as None, because that is an ordinary answer.  Only `ReceiveStamping` changes anything.

Source relied on: include/uapi/linux/net_tstamp.h; net/core/dev_ioctl.c, dev_set_hwtstamp().
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import socket
import struct
from dataclasses import astuple, dataclass, replace
from typing import Any

from xdpcap.errors import KernelError, XdpcapError
from xdpcap.net.ethtool import receive_filters

logger = logging.getLogger(__name__)

SIOCSHWTSTAMP = 0x89B0
SIOCGHWTSTAMP = 0x89B1
# enum hwtstamp_rx_filters
FILTER_ALL = 1
# struct hwtstamp_config
OPTIONS = struct.Struct("=iii")


@dataclass(frozen=True)
class Stamping:
    """What a NIC stamps: struct hwtstamp_config."""

    flags: int
    tx_type: int
    rx_filter: int


def stamping(name: str) -> Stamping | None:
    """What the NIC stamps now; None where its driver stamps nothing or does not tell."""
    return _ask(name, SIOCGHWTSTAMP, Stamping(0, 0, 0))


def stamps_everything(name: str) -> bool:
    """Whether every packet is stamped that the NIC receives."""
    now = stamping(name)
    return now is not None and now.rx_filter == FILTER_ALL


def can_stamp_everything(name: str) -> bool:
    """Whether the NIC can be told to stamp every packet that it receives, and to stop again."""
    return stamping(name) is not None and bool(receive_filters(name) & 1 << FILTER_ALL)


class ReceiveStamping:
    """Has a NIC stamp all that it receives, and puts back what was: a `guardian.Change`.

    Restore in the network namespace that it was applied in.
    """

    kind = "receive time stamping"

    def __init__(self, name: str) -> None:
        self._name = name
        self._earlier: Stamping | None = None

    def plan(self) -> list[Any]:
        """The interface and what it stamps now; nothing where it stamps everything."""
        now = stamping(self._name)
        if now is None or now.rx_filter == FILTER_ALL:
            return []
        self._earlier = now
        return [self._name, *astuple(now)]

    @classmethod
    def planned(cls, plan: list[Any]) -> ReceiveStamping:
        """The object that `plan` described, to restore from."""
        change = cls(plan[0])
        change._earlier = Stamping(*plan[1:])
        return change

    def apply(self) -> None:
        """Turn it on.  KernelError or XdpcapError where the driver refuses or does less."""
        if self._earlier is None:
            return
        granted = _ask(self._name, SIOCSHWTSTAMP, replace(self._earlier, rx_filter=FILTER_ALL))
        # A driver may do more than it was asked, and write what it does (section 3.1).
        if granted is None or not stamps_everything(self._name):
            raise XdpcapError(f"the driver of {self._name} does not stamp every packet")
        logger.info(
            "turned on receive time stamping of %s until the end; `hwstamp_ctl -i %s -t %d -r %d` "
            "undoes it",
            *(self._name, self._name, self._earlier.tx_type, self._earlier.rx_filter),
        )

    def restore(self) -> None:
        """Put back what `apply` changed; never raises."""
        earlier, self._earlier = self._earlier, None
        if earlier is None:
            return
        try:
            if stamping(self._name) == earlier:
                return
            _ask(self._name, SIOCSHWTSTAMP, earlier)
        except XdpcapError as exc:
            logger.warning("receive time stamping of %s stays on: %s", self._name, exc)
        else:
            logger.info("restored receive time stamping of %s", self._name)


def _ask(name: str, request: int, options: Stamping) -> Stamping | None:
    """What the kernel makes of a configuration; None where the driver has no such request."""
    try:
        return Stamping(*OPTIONS.unpack(_ioctl(name, request, OPTIONS.pack(*astuple(options)))))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            raise XdpcapError(f"interface {name} is gone; was it deleted or renamed?") from None
        if exc.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
            return None
        call = "SIOCGHWTSTAMP" if request == SIOCGHWTSTAMP else "SIOCSHWTSTAMP"
        raise KernelError(f"ioctl({name}, {call})", exc.errno or 0) from exc


def _ioctl(name: str, request: int, structure: bytes) -> bytes:
    """The structure as the kernel leaves it, which struct ifreq points to."""
    answer = ctypes.create_string_buffer(structure, len(structure))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        ifreq = struct.pack("16sP16x", name.encode(), ctypes.addressof(answer))
        fcntl.ioctl(asking, request, ifreq)
    return answer.raw
