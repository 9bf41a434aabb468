"""Namespaces and veth pairs that a lab test makes for itself and takes away again.

`visiting()` moves the calling thread into a fresh namespace for the length of a `with`, so that
nothing the test does can reach the machine's own interfaces. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import platform
import struct
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from xdpcap.net import netns

_serial = itertools.count()
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_XDP = 6
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
XDP_FLAGS = {"generic": 2, "native": 4}


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A fresh named namespace; the name."""
    name = f"xdpcap-net-{os.getpid()}-{next(_serial)}"
    pyroute2_netns.create(name)
    try:
        yield name
    finally:
        pyroute2_netns.remove(name)


@contextlib.contextmanager
def visiting() -> Iterator[str]:
    """The calling thread in a fresh namespace, and back where it was afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with namespace() as name:
        try:
            netns.enter(name)
            yield name
        finally:
            netns.enter(f"/proc/self/fd/{home}")
            os.close(home)


def add_veth(
    name: str, peer: str, queues: int = 1, peer_netns: Any = None, up: bool = True
) -> None:
    """A veth pair, both ends up; the peer in another namespace (by name) where one is given."""
    ends: dict[str, Any] = {"ifname": peer, "num_rx_queues": queues, "num_tx_queues": queues}
    if peer_netns is not None:
        ends["net_ns_fd"] = peer_netns
    with IPRoute() as ipr:
        ipr.link(
            "add", ifname=name, kind="veth", peer=ends, num_rx_queues=queues, num_tx_queues=queues
        )
    if up:
        set_link(name, state="up")
        netns.call_in(peer_netns, lambda: set_link(peer, state="up"))


def set_link(name: str, **changes: Any) -> None:
    """`ip link set name ...`."""
    with IPRoute() as ipr:
        ipr.link("set", index=index_of(name), **changes)


def delete_link(name: str) -> None:
    """`ip link del name`."""
    with IPRoute() as ipr:
        ipr.link("del", index=index_of(name))


def index_of(name: str) -> int:
    """The interface's index."""
    with IPRoute() as ipr:
        return int(ipr.link_lookup(ifname=name)[0])


@contextlib.contextmanager
def xdp_pass(name: str, mode: str) -> Iterator[None]:
    """A program that passes everything, on an interface in "native" or "generic" mode."""
    program = _load_xdp_pass()
    try:
        set_link(
            name, xdp={"attrs": [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", XDP_FLAGS[mode])]}
        )
        yield
        set_link(name, xdp={"attrs": [("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", XDP_FLAGS[mode])]})
    finally:
        os.close(program)


def _load_xdp_pass() -> int:
    """bpf(BPF_PROG_LOAD) of `r0 = XDP_PASS; exit`: two instructions need no compiler."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "=IIQQ", BPF_PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence)
        ),
        72,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(BPF_SYSCALL[platform.machine()], BPF_PROG_LOAD, attributes, len(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf(BPF_PROG_LOAD)")
    return int(fd)
