"""The network as the kernel tells of it: links, queues, offloads, namespaces, NIC clocks;
imports errors, host, options and packets.

Over netlink and ethtool only; sysfs shows the namespace it was mounted in, which need not be the
one recorded in. Every function asks in the calling thread's network namespace and keeps nothing
open. Two classes own a socket, and whoever makes them closes them: `Promiscuous` and `LinkWatch`.
What changes an interface is `Promiscuous` and the kinds of change that `guardian` puts back.

Nothing in here knows AF_XDP sockets; the session (above) decides what to do with the answers.
"""

from xdpcap.net.driver_features import claims_zero_copy, offers_launch_time, rx_metadata
from xdpcap.net.etf import timed_queues
from xdpcap.net.ethtool import ptp_clock
from xdpcap.net.link import (
    Link,
    Promiscuous,
    find_link,
    get_link,
    is_there,
    list_links,
    peer_of,
    rx_missed,
    rx_queues_allocated,
    tx_dropped,
)
from xdpcap.net.link_watch import LinkEvent, LinkWatch, await_carrier, wait_for_carrier
from xdpcap.net.management import SENDING, refusal, require_up
from xdpcap.net.offloads import OffloadFixes, Spoiler, spoilers
from xdpcap.net.queues import Channels, channels, choose_queues, rx_queue_count
from xdpcap.net.rss import Rss, SymmetricRss, rss
from xdpcap.net.timestamping import (
    ReceiveStamping,
    can_stamp_everything,
    stamps_everything,
)

__all__ = [
    "SENDING",
    "Channels",
    "Link",
    "LinkEvent",
    "LinkWatch",
    "OffloadFixes",
    "Promiscuous",
    "ReceiveStamping",
    "Rss",
    "Spoiler",
    "SymmetricRss",
    "await_carrier",
    "can_stamp_everything",
    "channels",
    "choose_queues",
    "claims_zero_copy",
    "find_link",
    "get_link",
    "is_there",
    "list_links",
    "offers_launch_time",
    "peer_of",
    "ptp_clock",
    "refusal",
    "require_up",
    "rss",
    "rx_metadata",
    "rx_missed",
    "rx_queue_count",
    "rx_queues_allocated",
    "spoilers",
    "stamps_everything",
    "timed_queues",
    "tx_dropped",
    "wait_for_carrier",
]
