"""--time-stamp-type: which clock stamps the packets of an interface, the NIC's or the host's.

"auto" takes the NIC's time stamps where no setting has to change for them; "adapter" enables
receive time stamping in the NIC until the recording ends.  Where anything is missing, "auto"
uses the host's clock, and the start-up report gives the reason.

Source relied on: Documentation/networking/xdp-rx-metadata.rst, timestamping.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from xdpcap import net
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.net import Link
from xdpcap.net.driver_features import RX_TIMESTAMP
from xdpcap.net.nic_clock import HardwareClock
from xdpcap.options.record import RecordOptions

SECOND_NS = 1_000_000_000
OFF = "receive time stamping is off in the NIC"


@dataclass(frozen=True)
class TimeStamps:
    """`type` is "host", "adapter" or "adapter_unsynced"; `why_host` is the reason why the NIC's
    time stamps are not used, where its driver has some."""

    type: str = "host"
    why_host: str = ""

    @property
    def by_device(self) -> bool:
        """Whether packets that the NIC stamped have its time."""
        return self.type != "host"

    @property
    def in_device_time(self) -> bool:
        """Whether the files' times are the NIC's clock, not UTC."""
        return self.type == "adapter_unsynced"


HOST = TimeStamps()


@dataclass(frozen=True)
class DeviceTime:
    """The clock of a NIC at the start of a recording: its path, and its offset to UTC.

    `raw`: the files have its times unconverted.
    """

    path: str
    ahead_ns: int
    raw: bool

    @property
    def tsoffset_s(self) -> int:
        """if_tsoffset: the whole seconds that bring the files' times nearest to UTC."""
        return -((self.ahead_ns + SECOND_NS // 2) // SECOND_NS) if self.raw else 0

    @property
    def description(self) -> str:
        """The clock for the start-up report."""
        if self.raw:
            return f"{self.path} of the NIC as it is, {self._difference}"
        return f"{self.path} of the NIC, to UTC 50 times a second"

    def comment(self, host: str) -> str:
        """The comment for the files; `host` is that of packets that the NIC did not stamp."""
        host = f"packets that the NIC did not stamp have the host's {host}"
        if not self.raw:
            return (
                f"time: the NIC's, by its clock {self.path}, whose offset to UTC is measured 50 "
                f"times a second; {host}"
            )
        offset = f" (if_tsoffset: {self.tsoffset_s:+} s)" if self.tsoffset_s else ""
        return (
            f"time: the NIC's, by its clock {self.path} as it is, {self._difference} at the "
            f"start{offset}; {host}, moved to that clock"
        )

    @property
    def _difference(self) -> str:
        seconds, rest = divmod(abs(self.ahead_ns), SECOND_NS)
        return f"{seconds}.{rest:09d} s {'ahead of' if self.ahead_ns >= 0 else 'behind'} UTC"


def stamping_change(options: RecordOptions, link: Link) -> net.ReceiveStamping | None:
    """The NIC setting to change for its time stamps, None if the options don't require them.

    Raises UsageError where they are not available.
    """
    if not options.asks_device_time:
        return None
    lack = next(_permanently_missing(link), None)
    if lack is None and not (
        net.stamps_everything(link.name) or net.can_stamp_everything(link.name)
    ):
        lack = f"the NIC of {link.name} does not stamp every packet that it receives"
    if lack is not None:
        raise time_stamps_refused(options, lack)
    return net.ReceiveStamping(link.name)


def choose_time_stamps(
    options: RecordOptions, link: Link, refusal: str | None = None
) -> TimeStamps:
    """The source of the time stamps; `refusal` is why the program can't query the driver.

    Raises UsageError where the options require the NIC's and they are not available.
    """
    if options.time_stamp_type == "host":
        return HOST
    if options.asks_device_time:
        lack = refusal or next(_missing(link), None)
        if lack is not None:
            raise time_stamps_refused(options, lack)
        return TimeStamps(options.time_stamp_type)
    if not net.rx_metadata(link.index) & RX_TIMESTAMP:
        return HOST  # nobody expects anything else
    lack = next(_missing(link), None) or refusal
    if lack is None:
        return TimeStamps("adapter")
    return TimeStamps(why_host=f"{lack}, -j adapter turns it on" if lack == OFF else lack)


def time_stamps_refused(options: RecordOptions, lack: str) -> UsageError:
    """The error for required time stamps of the NIC that are not available."""
    return UsageError(f"-j {options.time_stamp_type}: {lack}; use -j host")


def _permanently_missing(link: Link) -> Iterator[str]:
    """What is missing and can't be fixed by a NIC setting."""
    if not net.rx_metadata(link.index) & RX_TIMESTAMP:
        driver = link.driver or f"the driver of {link.name}"
        yield f"{driver} reports no receive time to XDP programs on Linux {os.uname().release}"
    try:
        clock = HardwareClock(link.name)
    except XdpcapError as exc:
        yield str(exc)
        return
    try:
        clock.ahead_ns()
    except XdpcapError as exc:
        yield str(exc)
    finally:
        clock.close()


def _missing(link: Link) -> Iterator[str]:
    """What is missing with the NIC's current settings."""
    yield from _permanently_missing(link)
    if not net.stamps_everything(link.name):
        yield OFF
