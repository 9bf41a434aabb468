"""Which RX queues an interface has, and which of them to record.

Asks ethtool (ETHTOOL_GCHANNELS) in the calling thread's network namespace; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdpcap.errors import UsageError
from xdpcap.net import ethtool
from xdpcap.net.link import get_link, rx_queues_allocated


@dataclass(frozen=True)
class Channels:
    """The queues of an interface as `ethtool -l` shows them; all 0 where it shows none.

    A combined channel is one RX and one TX queue. veth counts rx and tx, most hardware combined.
    """

    rx_count: int = 0
    tx_count: int = 0
    other_count: int = 0
    combined_count: int = 0
    max_rx: int = 0
    max_tx: int = 0
    max_other: int = 0
    max_combined: int = 0

    @property
    def rx_queue_count(self) -> int:
        """Queues that receive: combined ones come first in the kernel's numbering, then rx."""
        return self.combined_count + self.rx_count

    @property
    def max_rx_queue_count(self) -> int:
        """The most receiving queues that `ethtool -L` could set up.

        A driver that offers both kinds offers the same hardware queues twice.
        """
        return max(self.max_combined, self.max_rx)


def channels(name: str) -> Channels:
    """The interface's channels; all 0 when the driver has none. Raises `UsageError` if unknown."""
    counts = ethtool.channel_counts(get_link(name).name)
    return Channels(**(counts or {}))


def rx_queue_count(name: str) -> int:
    """How many RX queues the interface receives on, 1 at least.

    By ethtool; for a driver without channels what the kernel set aside, which may be more than
    the driver uses (an unused queue is silent and costs a UMEM).
    """
    return channels(name).rx_queue_count or rx_queues_allocated(name) or 1


def choose_queues(name: str, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """The queues to record: all of them for None, else those wanted, in order and once each.

    Raises `UsageError` for a queue that is not there.
    """
    count = rx_queue_count(name)
    if wanted is None:
        return tuple(range(count))
    missing = sorted({queue for queue in wanted if not 0 <= queue < count})
    if missing:
        raise UsageError(_missing(name, missing, count))
    if not wanted:
        raise UsageError(f"no queue of {name} is asked for; it has {_range(count)}")
    return tuple(sorted(set(wanted)))


def _missing(name: str, missing: list[int], count: int) -> str:
    found = channels(name)
    listed = ", ".join(map(str, missing))
    what = "queue" if len(missing) == 1 else "queues"
    text = f"{name} has no RX {what} {listed}: it has {_range(count)}"
    kind = "combined" if found.max_combined else "rx"
    if found.max_rx_queue_count > max(missing):
        return f"{text}; `ethtool -L {name} {kind} {max(missing) + 1}` makes more"
    if found.max_rx_queue_count:
        most = found.max_rx_queue_count
        return f"{text}; `ethtool -L {name} {kind} N` sets how many, {most} at most"
    return f"{text}; `ethtool -L` can't change that for this driver"


def _range(count: int) -> str:
    return "1 RX queue (0)" if count == 1 else f"{count} RX queues (0-{count - 1})"
