"""Looking at packets: a source is read, dissected and printed until it ends or a signal comes.

The main thread does all of it. Output is written a list of packets at a time (see
`packet_source`), so that a pipe is printed as it fills.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from xdpcap.errors import UsageError
from xdpcap.inspect.file_source import PacketSource, Seen, open_files
from xdpcap.inspect.live_source import LiveSource
from xdpcap.inspect.packet_lines import shower
from xdpcap.net import netns
from xdpcap.options.dump import DumpOptions
from xdpcap.record.ledger import QueueAccount
from xdpcap.savefile.input_file import STDIN

Write = Callable[[str], None]
SumUp = Callable[[QueueAccount], None]


def dump_session(options: DumpOptions, write: Write, tell: Write, sum_up: SumUp) -> int:
    """Print what `options` asks for; the exit code.

    `write` takes lines for standard output and flushes them, `tell` one line for the person,
    `sum_up` what became of the packets of interfaces.
    """
    options.validate()
    with _Stop() as stop, contextlib.closing(_open(options, stop.fd)) as source:
        shown = 0
        if isinstance(source, LiveSource):
            tell(source.opening)
        show = shower(options)
        with contextlib.suppress(_Stopped):
            for batch in _limited(stop, source, options.count):
                shown += len(batch)
                if not options.count_only:
                    write("".join(map(show, batch)))
        if options.count_only:
            write(f"{_packets(shown)}\n")
        if isinstance(source, LiveSource):
            sum_up(source.ledger(shown))
        elif stop.asked:
            tell(f"{_packets(shown)} shown, {source.read_count} read")
        for line in source.damage:
            tell(line)
        return 1 if source.damage else 0


def _packets(count: int) -> str:
    return f"{count} packet{'' if count == 1 else 's'}"


def _open(options: DumpOptions, stop_fd: int) -> PacketSource:
    """What the names mean: an interface before a file, which may be written as ./NAME."""
    if options.netns is not None:
        netns.enter(options.netns)
    if all(map(_is_interface, options.sources)):
        output_fd = sys.stdout.fileno()
        return LiveSource(options.recording(), output_fd, stop_fd, on_nic=options.offload)
    name = next(name for name in options.sources if not _is_interface(name))
    if len(options.sources) > 1:
        raise UsageError(
            f"{name}: not one of several interfaces; look at a file or directory alone"
        )
    if name != STDIN and not os.path.lexists(name):
        raise UsageError(f"{name}: no such interface, file or directory; `xdpcap interfaces` lists")
    for option in options.for_interfaces:
        raise UsageError(f"{option} is for interfaces; leave it out for {name}")
    return open_files(name, options.expression)


def _is_interface(name: str) -> bool:
    if name == STDIN or "/" in name:
        return False
    try:
        socket.if_nametoindex(name)
    except (OSError, ValueError):
        return False
    return True


def _limited(stop: _Stop, source: PacketSource, count: int | None) -> Iterator[list[Seen]]:
    """The source's lists, up to `count` packets or a signal."""
    batches = source.batches()
    while count is None or count > 0:
        with stop.waiting():
            batch = next(batches, None)
        if batch is None:
            return
        if count is not None:
            batch = batch[:count]
            count -= len(batch)
        yield batch


# ---------------------------------------------------------------------------------- signals


class _Stopped(Exception):
    """A signal asked for the end while nothing was being written."""


class _Stop:
    """SIGINT and SIGTERM end the reading, never a line; the second one ends the process.

    `fd` is readable from the signal on, for whoever waits for other things as well: one that
    comes just before poll() begins would not end it.
    """

    def __init__(self) -> None:
        self.asked = False
        self.fd = self._told = -1
        self._old_wakeup = -1
        self._waiting = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        self.fd, self._told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._told)
        os.close(self.fd)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for other in self._old:
            signal.signal(other, signal.SIG_DFL)
        if self._waiting:
            raise _Stopped

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While packets are waited for, a signal is an exception."""
        self._waiting = True
        try:
            if self.asked:
                raise _Stopped
            yield
        finally:
            self._waiting = False
