"""From header to header of a packet, in bounded steps and never beyond what was captured.

A dissector is a function of a `Walk` and an offset. It appends layers and returns the
key and offset of what comes next, or None. Keys are of three number spaces: ethertypes as
they are, IP protocols and linktypes moved above them. So no dissector calls another, no
packet nests deeper than a number of steps, and none is read behind its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdpcap.packets.dissect.layers import Cut, Layer

IP_PROTOCOL = 0x10000
LINK = 0x20000
# 802.2 LLC, which has a length in the place of an ethertype.
LLC = 0x30000

# Headers that a packet may have; the longest that is no attack stays well below.
MOST_STEPS = 32
# Encapsulations that are followed: one level in.
MOST_TUNNELS = 1

Next = tuple[int, int] | None


@dataclass(slots=True)
class Walk:
    """A packet being read: `end` is where its captured bytes end, `wire_end` where it ends.

    Both move inwards when a header tells how long its payload is.
    """

    data: bytes
    end: int
    wire_end: int
    layers: list[Layer]
    tunnels: int = 0
    link_bytes: int = 0

    def cut(self, name: str) -> None:
        """A header called `name` of which not all is there."""
        self.layers.append(Cut(name))

    def linked(self, at: int, end: int) -> None:
        """A link header lies from `at` to `end`, if it is outside of everything else."""
        if at == self.link_bytes:
            self.link_bytes = end

    def limit(self, wire_end: int) -> None:
        """What follows ends at `wire_end`, as a header says; what stands behind is padding."""
        self.wire_end = wire_end
        self.end = min(self.end, wire_end)

    def enter(self) -> bool:
        """Whether one more encapsulation is followed."""
        self.tunnels += 1
        return self.tunnels <= MOST_TUNNELS


Dissector = Callable[[Walk, int], Next]
