"""What a recording shows of itself to other processes; nothing here is needed to record.

What can't be shown is told in one line, and the recording goes on.

Owner: the main thread.  Frees: hide() and hide_all() before a program is detached, close().
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from xdpcap.errors import XdpcapError
from xdpcap.options.listen_address import ListenAddress
from xdpcap.programs.pinned_counters import PinnedCounters
from xdpcap.record.attachment import Attachment
from xdpcap.record.ledger import QueueAccount

if TYPE_CHECKING:
    from xdpcap.record.prometheus import Exporter

log = logging.getLogger(__name__)


class Publisher:
    """Pinned counters of every interface that is recorded, and metrics where they are asked for.

    Made before the recording enters a namespace: metrics are served in the one that the
    command was typed in.  Raises KernelError where nobody can listen at `prometheus`.
    """

    def __init__(self, prometheus: ListenAddress | None) -> None:
        self._pins: dict[str, PinnedCounters] = {}
        self._exporter: Exporter | None = None
        if prometheus is not None:
            from xdpcap.record.prometheus import Exporter

            self._exporter = Exporter(prometheus)

    def serve(self, ask: Callable[[], None]) -> None:
        """Answer scrapes from now on; `ask` wakes the main thread, which then publishes."""
        if self._exporter is not None:
            self._exporter.serve(ask)

    @property
    def failed(self) -> bool:
        """Whether something can't be shown any more, which was told."""
        return self._exporter is not None and self._exporter.failed

    @property
    def asked(self) -> bool:
        """Whether somebody waits for the ledger."""
        return self._exporter is not None and self._exporter.asked

    def publish(self, rows: Sequence[QueueAccount], uncovered: Mapping[str, int]) -> None:
        """What is served from now on: the ledger, and by interface what its other queues passed."""
        if self._exporter is not None:
            self._exporter.publish(rows, uncovered)

    def show(self, attachment: Attachment) -> None:
        """Pin the counters of an interface that is recorded from now on; needs root."""
        name = attachment.link.name
        try:
            self._pins[name] = PinnedCounters(
                attachment.link, attachment.program, attachment.queues
            )
        except (XdpcapError, OSError) as exc:
            log.info("%s: not shown to `xdpcap stats`: %s", name, exc)

    def hide(self, name: str) -> None:
        """Take away the pins of one interface, if there are any."""
        pins = self._pins.pop(name, None)
        if pins is not None:
            pins.remove()

    def hide_all(self) -> None:
        """Take away the pins of every interface."""
        for name in list(self._pins):
            self.hide(name)

    def close(self) -> None:
        """Show nothing any more; safe to call again."""
        self.hide_all()
        if self._exporter is not None:
            self._exporter.close()
