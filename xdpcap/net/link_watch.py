"""Waiting for a link to change: one netlink socket that the kernel tells of every change.

The socket joins RTMGRP_LINK in the namespace of the thread that makes the `LinkWatch`, and whoever
made it closes it. It never blocks; `fileno()` goes into the caller's poll().
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK, RTMGRP_LINK
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from xdpcap.errors import KernelError
from xdpcap.net.link import IFF_LOWER_UP, IFF_UP, Link, find_link

log = logging.getLogger(__name__)

# A link message is about 1.5 KiB; the default receive buffer of 208 KiB holds some 60 of them
# once the kernel's own bookkeeping is counted.
RECEIVE_BUFFER_BYTES = 1 << 20
READ_BYTES = 1 << 18
STOP_CHECK_S = 0.2
CARRIER_WAIT_S = 15.0


@dataclass(frozen=True)
class LinkEvent:
    """What a link has become. `deleted` also when it was moved to another namespace."""

    index: int
    name: str
    up: bool
    carrier: bool
    deleted: bool


class LinkWatch:
    """Tells of every link that appears, changes or goes, from its making on."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self._socket.bind((0, RTMGRP_LINK))
            self._marshal = MarshalRtnl()
            self._known = {event.index: event for event in _links_now()}
        except OSError as exc:
            self._socket.close()
            raise KernelError("bind(AF_NETLINK, RTMGRP_LINK)", exc.errno or 0) from exc

    def fileno(self) -> int:
        """For poll(): readable when `read` has something to tell. -1 when closed."""
        return self._socket.fileno()

    def read(self) -> list[LinkEvent]:
        """The changes since the last read, oldest first; empty at once when there are none.

        When the kernel had more to tell than the socket holds, every link is told of as it is
        now, and the ones that are gone as deleted: nothing that lasts is missed.
        """
        events: list[LinkEvent] = []
        overrun = False
        while True:
            try:
                data, sender = self._socket.recvfrom(READ_BYTES)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise KernelError("recv(RTMGRP_LINK)", exc.errno or 0) from exc
                overrun = True
                continue
            if sender[0] == 0:  # 0 is the kernel; any process may write to a netlink socket
                events += self._parse(data)
        for event in events:
            self._remember(event)
        if overrun:
            # Only now: the error comes before the messages that were queued ahead of the loss,
            # and what is true now has to be told last.
            events += self._resynchronise()
        return events

    def close(self) -> None:
        """Stop listening; harmless when done already."""
        self._socket.close()

    def __enter__(self) -> LinkWatch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _parse(self, data: bytes) -> list[LinkEvent]:
        messages = self._marshal.parse(data)
        return [_event(message) for message in messages if _is_about_a_link(message)]

    def _resynchronise(self) -> list[LinkEvent]:
        present = _links_now()
        there = {event.index for event in present}
        gone = [
            LinkEvent(event.index, event.name, False, False, True)
            for event in self._known.values()
            if event.index not in there
        ]
        self._known = {event.index: event for event in present}
        return gone + present

    def _remember(self, event: LinkEvent) -> None:
        if event.deleted:
            self._known.pop(event.index, None)
        else:
            self._known[event.index] = event


def wait_for_carrier(
    name: str, timeout_s: float | None, stop: Callable[[], bool] | None = None
) -> bool:
    """Wait until the interface is up with a carrier; an interface not there yet is waited for.

    True when it is, False after `timeout_s` seconds (None: never), or soon after `stop()` turns
    true, which is asked at least every 0.2 s.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with LinkWatch() as watch:
        poller = select.poll()
        poller.register(watch.fileno(), select.POLLIN)
        while True:
            link = find_link(name)
            if link is not None and link.up and link.carrier:
                return True
            wait_s = None if deadline is None else deadline - time.monotonic()
            if (wait_s is not None and wait_s <= 0) or (stop is not None and stop()):
                return False
            if stop is not None:
                wait_s = STOP_CHECK_S if wait_s is None else min(wait_s, STOP_CHECK_S)
            # Rounded up: a poll of 0 ms would spin through the last millisecond.
            poller.poll(None if wait_s is None else int(wait_s * 1000) + 1)
            watch.read()


def _links_now() -> list[LinkEvent]:
    with IPRoute() as ipr:
        return [_event(message) for message in ipr.get_links()]


def _is_about_a_link(message: Any) -> bool:
    """Whether a message tells of a link as such.

    A bridge sends RTM_DELLINK of family AF_BRIDGE when a port leaves it, and wireless drivers
    send RTM_NEWLINK with IFLA_WIRELESS only: neither is a link that came or went.
    """
    return (
        message["header"]["type"] in (RTM_NEWLINK, RTM_DELLINK)
        and message["family"] == socket.AF_UNSPEC
        and message.get_attr("IFLA_IFNAME") is not None
    )


def _event(message: Any) -> LinkEvent:
    deleted = message["header"]["type"] == RTM_DELLINK
    flags = 0 if deleted else message["flags"]
    return LinkEvent(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        deleted=deleted,
    )


def await_carrier(link: Link) -> None:
    """Wait for a link that had a carrier before a program was attached, or sockets bound.

    Some drivers reset the NIC for either (igb, ixgbe, i40e), and the link is down for seconds.
    """
    if not link.carrier or wait_for_carrier(link.name, 0.0):
        return
    log.info("%s: the driver has reset the NIC; waiting for its link", link.name)
    began = time.monotonic()
    if wait_for_carrier(link.name, CARRIER_WAIT_S):
        log.info("%s: the link is back after %.1f s", link.name, time.monotonic() - began)
    else:
        log.warning("%s: no carrier after %g s; it is not waited for", link.name, CARRIER_WAIT_S)
