"""The recording program on one interface in mirror mode: it copies, and the host keeps its packets.

Owner: the session, as of an `Attachment`.  Frees: close().
"""

from __future__ import annotations

from typing import Any

from xdpcap.net import Link
from xdpcap.options.record import RecordOptions
from xdpcap.packets.filter import PacketFilter
from xdpcap.record.attachment import Attachment
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.startup import QueueMode
from xdpcap.rings.copy_rings import CopyRing


class MirrorAttachment(Attachment):
    """As an `Attachment`, with rings that packets are copied into in place of sockets."""

    mode = "mirror: every packet is copied and stays with the host"

    def __init__(
        self,
        options: RecordOptions,
        link: Link,
        queues: tuple[int, ...],
        queue_count: int,
        *,
        packet_filter: PacketFilter | None = None,
    ) -> None:
        self._rings: dict[int, CopyRing] = {}
        super().__init__(options, link, queues, queue_count, packet_filter=packet_filter)

    def _program_options(self) -> dict[str, Any]:
        return {**super()._program_options(), "snaplen": self._options.snaplen}

    def _bind(self, queue: int) -> None:
        self._rings[queue] = CopyRing(
            queue, self._options.mirror_size_bytes, perf=self.variant.perf
        )

    def _tell_why_copy(self) -> None:
        """Nobody has asked for anything else."""

    def start(self) -> None:
        """Let packets be copied."""
        self.renew()
        for queue, ring in self._rings.items():
            self.program.bind_ring(queue, ring)

    def source(self, queue: int) -> CopyRing:
        """Where the worker of a queue takes its packets from."""
        return self._rings[queue]

    def queue_modes(self) -> list[QueueMode]:
        """Copies, of packets of several buffers where the program takes them."""
        return [QueueMode(queue, False, self.variant.multi_buffer) for queue in self._rings]

    def count(self, row: QueueAccount) -> None:
        """Fill in what the program knows of a queue."""
        row.mirror = True
        row.ring_size = self._rings[row.queue].rx_size
        self._count_verdicts(row)

    def close(self) -> None:
        """Detach, then free the rings; safe on a half-made object."""
        super().close()
        for ring in self._rings.values():
            ring.close()
