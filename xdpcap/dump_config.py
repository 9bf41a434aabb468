"""What `xdpcap dump` is asked for, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from xdpcap.errors import UsageError

TIME_STYLES = ("absolute", "date", "epoch", "delta", "relative", "none")
HEX_STYLES = ("x", "xx", "X", "XX")


@dataclass(frozen=True)
class DumpConfig:
    """`source` is an interface, a capture file, a directory of them, or "-".

    `hexdump` is one of HEX_STYLES or "": with the link header when doubled, with ASCII in
    capitals. `count` is the most packets that are shown, None for all of them.
    """

    source: str
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

    def validate(self) -> None:
        """UsageError, one line with the way out, for what can't be meant."""
        if not self.source:
            raise UsageError("nothing to look at; name an interface, a file or a directory with -i")
        if self.count is not None and self.count < 1:
            raise UsageError("--count 0: no packet would be shown; leave it out for all of them")
        if self.generic and self.offload:
            raise UsageError("-S and -H: a program is attached in one mode; choose one")
        if self.json and self.count_only:
            raise UsageError("--json and --print-count: one or the other is printed; choose one")
