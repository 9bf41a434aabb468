"""Packets with a VLAN tag beside them, as a device has them that takes tags off or puts them in.

tag_what_leaves(lab, tmp_path, 100)  # a lab made with offloads=True
send_skbs(lab, frames)
assert contents(files) == [tagged(frame, 100) for frame in frames]
"""

from __future__ import annotations

import socket
import struct
import subprocess
from pathlib import Path

from compiled_programs import PROGRAMS, compiled

from xdpcap.bench.lab import Lab, in_netns

PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}


def tag_what_leaves(
    lab: Lab, directory: Path, number: int, protocol: str = "802.1q", *flags: str
) -> None:
    """From here on the sender's packets get a tag beside them, as from a VLAN device."""
    macros = [f"-DPROTO={PROTOCOLS[protocol]}", f"-DTCI={number}", *flags]
    target = str(compiled(PROGRAMS / "push_tag.bpf.c", directory, *macros))
    loaded = ["filter", "add", "dev", "tx0", "egress", "bpf", "da", "obj", target, "sec", "tc"]
    for words in (["qdisc", "add", "dev", "tx0", "clsact"], loaded):
        subprocess.run(["tc", "-n", lab.tx_ns, *words], check=True, capture_output=True)


def send_skbs(lab: Lab, frames: list[bytes]) -> None:
    """Send from a packet socket: an skb each, past the egress hook and the device's offloads."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("tx0", 0))
            for frame in frames:
                wire.send(frame)

    in_netns(lab.tx_ns, send)


def tagged(frame: bytes, number: int, protocol: str = "802.1q") -> bytes:
    """The frame with the tag in its place."""
    return frame[:12] + struct.pack("!HH", PROTOCOLS[protocol], number) + frame[12:]
