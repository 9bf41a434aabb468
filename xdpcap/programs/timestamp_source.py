"""--time-stamp-type: whose clock stamps the packets of an interface, the NIC's or the host's.

By itself a recording takes the NIC's times where there is nothing to change for them; asked for
them, it has the NIC stamp what it receives until the end.  Where anything lacks it is the host
who stamps, and the start-up report says why.

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
    """`type` is "host", "adapter" or "adapter_unsynced"; `why_host` says what keeps the NIC's
    times from being taken where its driver has some."""

    type: str = "host"
    why_host: str = ""

    @property
    def by_device(self) -> bool:
        """Whether packets have the NIC's time, those that it stamped."""
        return self.type != "host"

    @property
    def in_device_time(self) -> bool:
        """Whether the files' times are in the NIC's clock, not in UTC."""
        return self.type == "adapter_unsynced"


HOST = TimeStamps()


@dataclass(frozen=True)
class DeviceTime:
    """The clock of a NIC at the start of a recording: its path, and what it is ahead of UTC.

    `raw`: the files have its times as they are.
    """

    path: str
    ahead_ns: int
    raw: bool

    @property
    def tsoffset_s(self) -> int:
        """if_tsoffset: the whole seconds that bring the files' times nearest to UTC."""
        return -((self.ahead_ns + SECOND_NS // 2) // SECOND_NS) if self.raw else 0

    @property
    def told(self) -> str:
        """For the start-up report."""
        if self.raw:
            return f"{self.path} of the NIC as it is, {self._difference}"
        return f"{self.path} of the NIC, to UTC 50 times a second"

    def comment(self, host: str) -> str:
        """For the files; `host` says the same of packets that the NIC did not stamp."""
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
    """What to change for the NIC's times, where they are asked for.

    Raises UsageError where they are not to be had.
    """
    if not options.asks_device_time:
        return None
    lack = next(_always_lacks(link), None)
    if lack is None and not (
        net.stamps_everything(link.name) or net.can_stamp_everything(link.name)
    ):
        lack = f"the NIC of {link.name} does not stamp every packet that it receives"
    if lack is not None:
        raise refused(options, lack)
    return net.ReceiveStamping(link.name)


def choose(options: RecordOptions, link: Link, refusal: str | None = None) -> TimeStamps:
    """Whose times to take now; `refusal` is what keeps the program from asking the driver.

    Raises UsageError where the NIC's are asked for and not to be had.
    """
    if options.time_stamp_type == "host":
        return HOST
    if options.asks_device_time:
        lack = refusal or next(_lacks(link), None)
        if lack is not None:
            raise refused(options, lack)
        return TimeStamps(options.time_stamp_type)
    if not net.rx_metadata(link.index) & RX_TIMESTAMP:
        return HOST  # nobody expects anything else
    lack = next(_lacks(link), None) or refusal
    if lack is None:
        return TimeStamps("adapter")
    return TimeStamps(why_host=f"{lack}, -j adapter turns it on" if lack == OFF else lack)


def refused(options: RecordOptions, lack: str) -> UsageError:
    """The NIC's times are asked for, and something lacks."""
    return UsageError(f"-j {options.time_stamp_type}: {lack}; use -j host")


def _always_lacks(link: Link) -> Iterator[str]:
    """What no setting of the NIC would mend."""
    if not net.rx_metadata(link.index) & RX_TIMESTAMP:
        driver = link.driver or f"the driver of {link.name}"
        yield f"{driver} tells programs no receive time on Linux {os.uname().release}"
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


def _lacks(link: Link) -> Iterator[str]:
    """What lacks as the NIC is set now."""
    yield from _always_lacks(link)
    if not net.stamps_everything(link.name):
        yield OFF
