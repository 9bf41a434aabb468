"""Another's XDP program under observation: rings of what it gets, or of what it lets go.

Owner: the session, as of an `Attachment`.  Frees: close().
"""

from __future__ import annotations

from xdpcap.host import kernel
from xdpcap.programs.builds import Variant, observer_variant
from xdpcap.programs.metadata import Metadata
from xdpcap.programs.observer import Observer
from xdpcap.record.mirror_attachment import MirrorAttachment


class ObserverAttachment(MirrorAttachment):
    """As a `MirrorAttachment`, with copies made before or after a program that is there already."""

    # It has the attributes of a Program that an attachment uses.
    program: Observer  # type: ignore[assignment]

    def _attach(self) -> tuple[Observer, Variant, Metadata]:  # type: ignore[override]
        options, variant = self._options, observer_variant()
        kernel.require((5, 6), "--xdp-hook")
        assert options.xdp_hook is not None
        program = Observer(
            variant.path,
            options.xdp_hook,
            self.link.index,
            self._map_queues,
            at=options.xdp_hook_at,
            clock=variant.clock,
            snaplen=options.snaplen,
            whole_length=kernel.has_load_bytes(),
        )
        return program, variant, Metadata()

    @property
    def mode(self) -> str:  # type: ignore[override]
        """What is observed, for people."""
        where = "before" if self.program.attach_mode == "fentry" else "after"
        seen = self.program.observed
        return f"observing: packets are copied {where} {seen.name} (id {seen.prog_id})"
