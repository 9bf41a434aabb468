"""The terminal side of a recording session.

On a terminal the statistics are a live table, elsewhere a line an interval.
The session calls these methods from its main thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from xdpcap.cli.rates import Key, RateMeter, key_of
from xdpcap.cli.record_closing import closing_view, loss_lines
from xdpcap.cli.record_live import LOSSES, Moment, live_view
from xdpcap.cli.record_opening import startup_lines
from xdpcap.cli.terminal import SessionTerminal, survives
from xdpcap.options.record import RecordOptions
from xdpcap.options.units import format_grouped, format_scaled
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.startup import StartupReport


class TerminalUi(SessionTerminal):
    """What a recording tells, shown as `options` wants it."""

    def __init__(self, options: RecordOptions, console: Console | None = None) -> None:
        super().__init__(options, console)
        self._meter = RateMeter()
        self._losses: dict[tuple[Key, str], int] = {}

    @survives
    def startup(self, report: StartupReport) -> None:
        """Show what was granted; with --quiet only what will spoil the capture."""
        if self._report_options.quiet:
            for why, command in report.spoilers:
                self.message(f"{report.interface}: {why}; {command}")
            return
        for line in startup_lines(report, self._glyphs):
            self._print_line(line)

    def start(self) -> None:
        """The recording runs from now on."""
        self._start_live()

    @survives
    def tick(
        self,
        accounts: Sequence[QueueAccount],
        totals: QueueAccount,
        elapsed_s: float,
        disk_rate_bytes: float,
    ) -> None:
        """Show the ledger now; off a terminal at most once every --stats-interval."""
        if not self._due(elapsed_s):
            return
        rates = self._meter.measure(accounts, elapsed_s)
        moment = Moment(
            accounts, totals, rates, elapsed_s, disk_rate_bytes, self._growing(accounts)
        )
        if self._live is None:
            self._print_line(Text(statistics_line(moment)))
            return
        width, height = self._console.size
        self._live.update(live_view(moment, self._glyphs, width, height), refresh=True)

    def finish(self, report: dict[str, Any]) -> None:
        """The final report: for people on standard error, or with --json on standard output."""
        self._stop_live()
        if self._report_options.json:
            self._emit_json(report)
        elif self._report_options.quiet:
            for line in loss_lines(report["total"]):
                self.message(f"packets lost, {line}")
        else:
            self._summarise(report)

    @survives
    def _summarise(self, report: dict[str, Any]) -> None:
        for part in closing_view(report, self._glyphs, self._console.width):
            self._print_line(part)

    def _growing(self, accounts: Sequence[QueueAccount]) -> frozenset[tuple[Key, str]]:
        """The counters of loss that went up since the last tick."""
        now = {
            (key_of(account), place): getattr(account, place)
            for account in accounts
            for place in LOSSES
        }
        before, self._losses = self._losses, now
        return frozenset(key for key, count in now.items() if count > before.get(key, 0))


def statistics_line(moment: Moment) -> str:
    """``12.0s eth0: 1 234 567 packets, 123.4 kpps, 812.0 Mb/s, 0 lost``, interfaces by commas."""
    parts = []
    for interface in dict.fromkeys(account.interface for account in moment.accounts):
        accounts = [a for a in moment.accounts if a.interface == interface]
        packets = sum(account.received for account in accounts)
        packets_per_s = sum(moment.rates[key_of(a)].packets_per_s for a in accounts)
        bits_per_s = sum(moment.rates[key_of(a)].bits_per_s for a in accounts)
        parts.append(
            f"{interface}: {format_grouped(packets)} packets, "
            f"{format_scaled(packets_per_s, 'pps')}, {format_scaled(bits_per_s, 'b/s')}, "
            f"{format_grouped(sum(account.lost for account in accounts))} lost"
        )
    return f"{moment.elapsed_s:.1f}s {'; '.join(parts)}"
