"""What a recording shows of itself to other processes; nothing here is needed to record.

What can't be shown is told in one line, and the recording goes on.

Owner: the main thread.  Frees: close(), before the programs are detached.
"""

from __future__ import annotations

import logging

from xdpcap.attachment import Attachment
from xdpcap.errors import XdpcapError
from xdpcap.pins import Pins

log = logging.getLogger(__name__)


class Outside:
    """Pins of every interface that is recorded."""

    def __init__(self) -> None:
        self._pins: dict[str, Pins] = {}

    def show(self, attachment: Attachment) -> None:
        """Pin the counters of an interface that is recorded from now on; needs root."""
        name = attachment.link.name
        try:
            self._pins[name] = Pins(attachment.link, attachment.program, attachment.queues)
        except (XdpcapError, OSError) as exc:
            log.info("%s: not shown to `xdpcap stats`: %s", name, exc)

    def hide(self, name: str) -> None:
        """Take away the pins of one interface, if there are any."""
        pins = self._pins.pop(name, None)
        if pins is not None:
            pins.remove()

    def close(self) -> None:
        """Take away everything; safe to call again."""
        for name in list(self._pins):
            self.hide(name)
