"""The few ethtool questions a capture asks, over SIOCETHTOOL.

ioctl and not ethtool's netlink family, because the ioctl is there on every kernel that has AF_XDP
(4.18; the netlink family came with 5.6) and pyroute2 speaks channels and features through it only.

Every question opens one datagram socket and closes it before it answers. The socket belongs to
the network namespace of the calling thread, and so does the answer. Reading needs no privilege;
`set_features` needs CAP_NET_ADMIN. What a driver does not implement reads as None, because that
is an ordinary answer; an interface that is gone raises `XdpcapError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyroute2.ethtool.ioctl import (
    SIOCETHTOOL,
    EthtoolError,
    IoctlEthtool,
    NoSuchDevice,
    NotSupportedError,
)

from xdpcap.errors import KernelError, XdpcapError

IFNAMSIZ = 16
ETHTOOL_GDRVINFO = 0x3
# struct ethtool_drvinfo of linux/ethtool.h: 196 bytes, the driver's name after the command word.
DRVINFO_SIZE = 196
DRVINFO_DRIVER = slice(4, 36)
ETHTOOL_GET_TS_INFO = 0x41
# struct ethtool_ts_info: command, so_timestamping, phc_index, tx_types, three reserved words,
# rx_filters, three more.
TS_INFO = struct.Struct("=IIiI12xI12x")
CHANNEL_COUNTS = (
    "rx_count",
    "tx_count",
    "other_count",
    "combined_count",
    "max_rx",
    "max_tx",
    "max_other",
    "max_combined",
)
SPEED_UNKNOWN = (0, 0xFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Feature:
    """One offload as the kernel sees it (ETHTOOL_GFEATURES).

    `active` is what the device does now, `requested` what somebody asked for: they differ while
    a feature it depends on is off (TSO without checksums). `changeable` is ethtool's not [fixed].
    """

    active: bool
    requested: bool
    changeable: bool


@contextmanager
def _asking(name: str, question: str) -> Iterator[IoctlEthtool]:
    """A pyroute2 ethtool socket for one interface; its exceptions become ours."""
    if not 0 < len(name.encode()) < IFNAMSIZ:
        raise XdpcapError(f"{name!r} is no interface name; it takes 1 to {IFNAMSIZ - 1} bytes")
    tool = IoctlEthtool()
    try:
        tool.change_ifname(name)
        yield tool
    except NoSuchDevice:
        raise XdpcapError(f"interface {name} is gone; was it deleted or renamed?") from None
    except NotSupportedError:
        raise
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            raise XdpcapError(f"interface {name} is gone; was it deleted or renamed?") from None
        hint = "CAP_NET_ADMIN is needed" if exc.errno in (errno.EPERM, errno.EACCES) else ""
        raise KernelError(f"ethtool {question} of {name}", exc.errno or 0, hint) from exc
    except EthtoolError as exc:
        raise XdpcapError(f"ethtool {question} of {name}: {exc}") from exc
    finally:
        tool.close()


def driver(name: str) -> str:
    """The driver's name (`veth`, `ixgbe`), or "" where the kernel knows none (`lo`)."""
    answer = _answer(name, "driver", ETHTOOL_GDRVINFO, DRVINFO_SIZE)
    name_bytes = b"" if answer is None else answer[DRVINFO_DRIVER].split(b"\0")[0]
    return name_bytes.decode(errors="replace")


def ptp_clock(name: str) -> int | None:
    """N of the device's PTP hardware clock /dev/ptpN; None when it has none."""
    info = _ts_info(name)
    return info[2] if info is not None and info[2] >= 0 else None


def receive_filters(name: str) -> int:
    """Which packets the device can be told to stamp: bits, numbered as hwtstamp_rx_filters."""
    info = _ts_info(name)
    return info[4] if info is not None else 0


def _ts_info(name: str) -> tuple[int, ...] | None:
    answer = _answer(name, "timestamping", ETHTOOL_GET_TS_INFO, TS_INFO.size)
    return None if answer is None else TS_INFO.unpack(answer)


def _answer(name: str, question: str, command: int, size: int) -> bytes | None:
    """The structure that answers a command without arguments; None where a driver has none."""
    return ask(name, question, struct.pack("=I", command).ljust(size, b"\0"))


def ask(name: str, question: str, structure: bytes) -> bytes | None:
    """What the kernel makes of a structure of linux/ethtool.h, which begins with its command.

    `question` is for the error. None where the driver does not know the command.
    """
    answer = ctypes.create_string_buffer(structure, len(structure))
    try:
        with _asking(name, question) as tool:
            request = struct.pack("16sP16x", name.encode(), ctypes.addressof(answer))
            fcntl.ioctl(tool.sock, SIOCETHTOOL, request)
    except NotSupportedError:
        return None
    except KernelError as exc:
        if exc.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
            return None
        raise
    return answer.raw


def speed_mbps(name: str) -> int | None:
    """The link's speed in Mb/s; None when it is down or the driver does not say."""
    try:
        with _asking(name, "speed") as tool:
            speed = int(tool.get_link_settings().speed)
    except NotSupportedError:
        return None
    except KernelError as exc:
        # EINVAL and ENODATA are how some drivers say "link is down".
        if exc.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA, errno.ENOTTY):
            return None
        raise
    return None if speed in SPEED_UNKNOWN else speed


def channel_counts(name: str) -> dict[str, int] | None:
    """CHANNEL_COUNTS by name: how many queues of each kind there are and may be at most.

    None where the driver has no channels to tell of.
    """
    try:
        with _asking(name, "channels") as tool:
            found = tool.get_channels()
    except NotSupportedError:
        return None
    return {field: int(getattr(found, field)) for field in CHANNEL_COUNTS}


def features(name: str) -> dict[str, Feature]:
    """Every offload by the kernel's name for it (`rx-gro-hw`, `tx-checksum-ip-generic`)."""
    try:
        with _asking(name, "features") as tool:
            found = tool.get_features()
    except NotSupportedError:
        return {}
    named = [key for key, *_ in found if key]
    return {
        key: Feature(found.is_active(key), found.is_requested(key), found.is_available(key))
        for key in named
    }


def set_features(name: str, wanted: Mapping[str, bool]) -> None:
    """Request the named offloads on or off and leave every other one alone.

    A request is not yet the state: read `features` again to see what came of it. Raises
    `KernelError` when the kernel refuses, `KeyError` for a feature that it does not have.
    """
    try:
        with _asking(name, "set features") as tool:
            found = tool.get_features()
            for key, on in wanted.items():
                found.set_value(key, on)
            tool.set_features(found)
    except NotSupportedError:
        # pyroute2 says this for EOPNOTSUPP, and also for the positive answer that only means
        # "part of the wish stays a wish for now" (ETHTOOL_F_WISH): the caller reads the state.
        return
