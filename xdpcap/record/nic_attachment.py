"""A program that the NIC itself runs, and the rings in which its copies arrive.

Which queue a packet is for is not known yet where the NIC's program runs, so there is one set of
rings for the interface.  Owner: the session, as of an `Attachment`.  Frees: close().
"""

from __future__ import annotations

import os

from xdpcap.errors import KernelError, UsageError
from xdpcap.host import kernel
from xdpcap.net import Link
from xdpcap.options.record import RecordOptions
from xdpcap.programs.builds import Variant, nic_variant
from xdpcap.programs.metadata import Metadata
from xdpcap.programs.nic_program import NicProgram
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.mirror_attachment import MirrorAttachment
from xdpcap.rings.copy_rings import CopyRing


class NicAttachment(MirrorAttachment):
    """As a `MirrorAttachment`, all packets of an interface in the place of its queue 0.

    Raises UsageError where the device takes no program.
    """

    program: NicProgram

    def __init__(self, options: RecordOptions, link: Link) -> None:
        super().__init__(options, link, (0,), 1)

    def _attach(self) -> tuple[NicProgram, Variant, Metadata]:
        variant = nic_variant()
        try:
            program = NicProgram(variant.path, device=self.link.index, name=variant.program)
            try:
                program.set_snaplen(self._options.snaplen)
                program.attach(self.link.index, "offload", link=kernel.has_bpf_link())
            except BaseException:
                program.close()
                raise
        except KernelError as exc:
            raise UsageError(
                f"{self.link.name}: the device does not take the program to run it itself "
                f"({exc.call}: {os.strerror(exc.errno)}); leave it to its driver or the kernel"
            ) from None
        return program, variant, Metadata()

    def _bind(self, queue: int) -> None:
        size = self._options.mirror_size_bytes
        self._rings[queue] = CopyRing(queue, size, perf=True, stamped=True)

    def count(self, row: QueueAccount) -> None:
        """What the NIC says that it has copied, and what of that has arrived; once, at the end."""
        row.mirror, row.attach_mode = True, self.attach_mode
        row.mirrored = self._rings[row.queue].empty()
        row.ring_lost = self.program.copied_count - row.mirrored
