"""What `xdpcap dump` is asked for, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from xdpcap.errors import UsageError
from xdpcap.options.record import STDOUT, RecordOptions

TIME_STYLES = ("absolute", "date", "epoch", "delta", "relative", "none")
HEX_STYLES = ("x", "xx", "X", "XX")


@dataclass(frozen=True)
class DumpOptions:
    """`sources` are interfaces, or one capture file, a directory of them, or "-".

    `hexdump` is one of HEX_STYLES or "": with the link header when doubled, with ASCII in
    capitals. `count` is the most packets that are shown, None for all of them. The last six
    are for interfaces alone; `snaplen` 0 looks at whole packets.
    """

    sources: tuple[str, ...]
    expression: str = ""
    count: int | None = None
    time_style: str = "absolute"
    nanoseconds: bool = False
    hexdump: str = ""
    link: bool = False
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    count_only: bool = False
    generic: bool = False
    offload: bool = False
    snaplen: int = 0
    queues: tuple[int, ...] | None = None
    promiscuous: bool = True
    netns: str | None = None

    def recording(self) -> RecordOptions:
        """What a recording in mirror mode would be asked, that of a looker at interfaces."""
        return RecordOptions(
            self.sources,
            STDOUT,
            mirror=True,
            attach="generic" if self.generic else "auto",
            snaplen=self.snaplen,
            hash="off",
            # Packets of several queues are put in order by one clock.
            time_stamp_type="host",
            queues=self.queues,
            promiscuous=self.promiscuous,
            netns=self.netns,
            filter=self.expression or None,
        )

    @property
    def for_interfaces(self) -> list[str]:
        """The options given that say something about interfaces alone."""
        given = {
            "-S": self.generic,
            "-H": self.offload,
            "-s": self.snaplen,
            "-p": not self.promiscuous,
            "--queues": self.queues is not None,
            "--netns": self.netns is not None,
        }
        return [option for option, is_given in given.items() if is_given]

    def validate(self) -> None:
        """UsageError, one line with the way out, for what can't be meant."""
        if not (self.sources and all(self.sources)):
            raise UsageError("nothing to look at; name an interface, a file or a directory with -i")
        if self.count is not None and self.count < 1:
            raise UsageError("--count 0: no packet would be shown; leave it out for all of them")
        if self.generic and self.offload:
            raise UsageError("-S and -H: a program is attached in one mode; choose one")
        if self.offload and self.queues is not None:
            raise UsageError(
                "-H and --queues: the NIC's program runs before a queue is chosen; "
                "leave out one of them"
            )
        if self.json and self.count_only:
            raise UsageError("--json and --print-count: one or the other is printed; choose one")
