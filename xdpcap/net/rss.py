"""How a device hashes packets for RSS: the function and its key (ETHTOOL_GRSSH, ETHTOOL_SRSSH).

ioctl, as for everything that `ethtool.py` asks. Reading needs no privilege, `set_rss` needs
CAP_NET_ADMIN. A device without RSS reads as None.

A Toeplitz hash whose key repeats after 16 bits does not change when two fields that lie a
multiple of 16 bits apart change places, as addresses and ports do: both directions of a connection
have one hash, and so one queue (Woo and Park, Scalable TCP Session Monitoring with Symmetric
Receive-side Scaling, 2012). 6d5a is the word that they found to spread well.

Source relied on: include/uapi/linux/ethtool.h, struct ethtool_rxfh; net/ethtool/ioctl.c,
ethtool_get_rxfh(), ethtool_set_rxfh().
"""

from __future__ import annotations

import errno
import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.net.ethtool import ask

log = logging.getLogger(__name__)

ETHTOOL_GRSSH, ETHTOOL_SRSSH = 0x46, 0x47
# The numbers of the functions are bits (enum hash functions in linux/ethtool_netlink.h).
TOEPLITZ, XOR, CRC32 = 1, 2, 4
# struct ethtool_rxfh before its array: command, context, sizes of table and key, function,
# transformation of the input (6.8; reserved before), three reserved octets, one word.
HEAD = struct.Struct("=IIIIBBxxI")
# ETH_RXFH_INDIR_NO_CHANGE: the table of queues stays as it is, and is not in the request.
TABLE_STAYS = 0xFFFFFFFF
# RXH_XFRM_SYM_XOR (6.8): source xor destination is hashed, which is symmetric whatever the key.
SYM_XOR = 1
SYMMETRIC_WORD = bytes.fromhex("6d5a")
# How a driver says that it has no such setting; EINVAL is also the kernel's, for a key where
# the device has none.
CAN_NOT = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY}


@dataclass(frozen=True)
class Rss:
    """`function` is one of the bits above or one that is not known here; `key` its key."""

    function: int
    input_xfrm: int
    key: bytes

    @property
    def symmetric(self) -> bool:
        """Whether both directions of a connection get one hash."""
        if self.input_xfrm & SYM_XOR:
            return True
        by_key = self.function == TOEPLITZ and self.key == symmetric_key(len(self.key))
        return by_key and bool(self.key)


def rss(name: str) -> Rss | None:
    """What the interface hashes with; None where it has no RSS that could be asked."""
    sizes = ask(name, "RSS", HEAD.pack(ETHTOOL_GRSSH, 0, 0, 0, 0, 0, 0))
    if sizes is None:
        return None
    _, _, entries, key_size, *_ = HEAD.unpack_from(sizes)
    request = HEAD.pack(ETHTOOL_GRSSH, 0, entries, key_size, 0, 0, 0)
    answer = ask(name, "RSS", request + bytes(4 * entries + key_size))
    if answer is None:
        return None
    *_, function, input_xfrm, _ = HEAD.unpack_from(answer)
    # The table of queues stands before the key.
    return Rss(function, input_xfrm, answer[HEAD.size + 4 * entries :][:key_size])


def set_rss(name: str, wanted: Rss) -> None:
    """Let the interface hash so, over the same queues as before.

    Raises KernelError, of errno EOPNOTSUPP where the driver has nothing to set.
    """
    head = HEAD.pack(
        *(ETHTOOL_SRSSH, 0, TABLE_STAYS, len(wanted.key)),
        *(wanted.function, wanted.input_xfrm, 0),
    )
    if ask(name, "set RSS", head + wanted.key) is None:
        raise KernelError(f"ethtool set RSS of {name}", errno.EOPNOTSUPP)


def symmetric_key(size: int) -> bytes:
    """A Toeplitz key of `size` bytes under which both directions of a connection hash alike."""
    return (SYMMETRIC_WORD * size)[:size]


class SymmetricRss:
    """The change that `--rss symmetric` makes to one interface, for a `guardian.Guardian`.

    The key first, since every NIC that lets its key be set can do it; where the driver does not,
    the transformation of the input, which a few have.
    """

    kind = "RSS"

    def __init__(self, name: str) -> None:
        self._name = name
        self._before: Rss | None = None

    @classmethod
    def planned(cls, plan: Iterable[list[Any]]) -> SymmetricRss:
        """What `plan` told of, to restore from."""
        ((name, function, input_xfrm, key),) = plan
        change = cls(name)
        change._before = Rss(function, input_xfrm, bytes.fromhex(key))
        return change

    def plan(self) -> list[list[Any]]:
        """The interface and how it hashes now, unless that is symmetric already."""
        now = rss(self._name)
        if now is None or now.symmetric:
            return []
        self._before = now
        return [[self._name, now.function, now.input_xfrm, now.key.hex()]]

    def apply(self) -> None:
        """Raises UsageError where the device can't, KernelError where the kernel refuses."""
        now = rss(self._name)
        if now is None:
            raise UsageError(
                f"--rss symmetric: {self._name} does not spread packets by a hash that could be "
                "set; leave it out, and put both directions together by epb_hash (--hash program)"
            )
        if now.symmetric:
            log.info("%s: RSS is symmetric already", self._name)
            return
        for wanted in _symmetric_ways(now):
            try:
                set_rss(self._name, wanted)
            except KernelError as exc:
                if exc.errno not in CAN_NOT:
                    raise
                log.debug("%s", exc)
                continue
            after = rss(self._name)
            if after is not None and after.symmetric:
                return
        raise UsageError(
            f"--rss symmetric: the driver of {self._name} lets neither the key of its hash be set "
            "nor its input; leave it out, and put both directions together by epb_hash "
            "(--hash program)"
        )

    def restore(self) -> None:
        """Hash as before.  Never raises: what fails is logged with the command that does it."""
        before = self._before
        if before is None:
            return
        try:
            if rss(self._name) != before:
                set_rss(self._name, before)
                log.info("restored RSS of %s", self._name)
        except XdpcapError as exc:
            key = before.key.hex(":")
            log.warning("RSS of %s is not as before: %s; `ethtool -X %s hkey %s`",
                        self._name, exc, self._name, key)  # fmt: skip


def _symmetric_ways(now: Rss) -> Iterable[Rss]:
    if now.key:
        yield Rss(TOEPLITZ, now.input_xfrm, symmetric_key(len(now.key)))
    yield Rss(now.function, now.input_xfrm | SYM_XOR, now.key)
