"""`python -m benchmarks.filter_cost`: the recording program's cost per packet, by filter.

The kernel runs the loaded program repeatedly on one packet (BPF_PROG_TEST_RUN), libpcap's
interpreter does the same in this process.  A round measures every row once; the row without a
filter comes first and last, and the difference of these two is the noise.
docs/performance.md explains how to read the figures.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from benchmarks import machine
from benchmarks.noise import floor_of
from benchmarks.record_speed import cpus_to_use
from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import (
    ETHERTYPE_IPV4,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TX_IPV4,
    ethernet,
    ipv4,
    tcp,
    udp,
)
from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.units import MIB
from xdpcap.packets.filter import PacketFilter, for_build
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.programs.builds import Variant, mirror_variants, variants
from xdpcap.programs.dead_man import DeadMan
from xdpcap.programs.program import Program
from xdpcap.programs.test_run import run_ns
from xdpcap.rings.copy_rings import CopyRing
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

REPEAT = 1_000_000
# As many as fit into the ring at either length, so that all of them are copied.
REPEAT_MIRROR = 10_000
MIRROR_BYTES = 32 * MIB
PORT = 443
# The last of a hundred terms is the one that matches.
HUNDRED = " or ".join(
    [*(f"host 10.0.{n // 10}.{n % 10 + 1}" for n in range(99)), f"host {TX_IPV4}"]
)
EXPRESSIONS = {
    "`tcp`": "tcp",
    "`host a and port b`": f"host {TX_IPV4} and port {PORT}",
    "100 hosts": HUNDRED,
}


def frame(protocol: int, size: int) -> bytes:
    """A frame of `size` bytes without FCS, from port 443 of the sender, TCP or UDP."""
    payload = bytes(max(size - 14 - 20 - (20 if protocol == PROTOCOL_TCP else 8), 0))
    segment = (
        tcp(payload, PORT, 50000, sequence=1, flags=0x10)
        if protocol == PROTOCOL_TCP
        else udp(payload, 53, 50000)
    )
    return ethernet(ipv4(segment, protocol), ETHERTYPE_IPV4)


TAKEN = frame(PROTOCOL_TCP, 60)
# From another host, with another protocol and other ports: no expression above matches it.
LEFT = frame(PROTOCOL_UDP, 60).replace(bytes(map(int, TX_IPV4.split("."))), bytes([10, 9, 9, 9]))
LONG = frame(PROTOCOL_TCP, 1514)


@dataclass
class Row:
    """One way to measure, and its results: nanoseconds per packet, one per round."""

    name: str
    measures: tuple[Callable[[], float] | None, ...]
    samples: list[list[float]] = field(default_factory=list)

    def measure(self) -> None:
        """Measure one more round."""
        if not self.samples:
            self.samples = [[] for _ in self.measures]
        for values, measure in zip(self.samples, self.measures, strict=True):
            if measure is not None:
                values.append(measure())


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True,
              help="Rounds of all rows.")  # fmt: skip
def main(rounds: int) -> None:
    """Measure the cost per packet of filters, mirror mode and the dead man's handle."""
    try:
        if os.geteuid() != 0:
            raise UsageError("namespaces and XDP need root; run with sudo")
        # The first CPU serves most interrupts.
        os.sched_setaffinity(0, {cpus_to_use().recorder})
        with Lab() as lab:
            in_netns(lab.rx_ns, _report, lab.rx_ifindex, rounds)
    except XdpcapError as exc:
        click.echo(f"filter_cost: {exc}", err=True)
        sys.exit(exc.exit_code)


def _report(ifindex: int, rounds: int) -> None:
    with Umem(MIB) as umem, Xsk(umem, "rx0", 0) as xsk:
        run = partial(in_kernel, xsk, ifindex)
        rows = [
            Row("no filter", (run({}, TAKEN), None, None, None)),
            *(row(run, name, expression) for name, expression in EXPRESSIONS.items()),
            Row("`--dead-man`", (run({"dead_man_ms": 60_000}, TAKEN), None, None, None)),
            Row("`--mirror`, 60 bytes", (partial(mirrored, ifindex, TAKEN), None, None, None)),
            Row("`--mirror`, 1514 bytes", (partial(mirrored, ifindex, LONG), None, None, None)),
            Row("no filter, again", (run({}, TAKEN), None, None, None)),
        ]
        for _ in range(rounds):
            for each in rows:
                each.measure()
    _print(rows, rounds)


def row(run: Callable[..., Callable[[], float]], name: str, expression: str) -> Row:
    """A filter in the program and in libpcap's interpreter, for a match and a mismatch."""
    chosen = PacketFilter(expression)
    assert chosen.compiled.matches(TAKEN) and not chosen.compiled.matches(LEFT)
    options = {"packet_filter": chosen}
    interpreter = Interpreter(chosen.compiled.instructions)
    return Row(
        name,
        (
            run(options, TAKEN),
            run(options, LEFT),
            partial(interpreted, interpreter, TAKEN),
            partial(interpreted, interpreter, LEFT),
        ),
    )


def in_kernel(
    xsk: Xsk, ifindex: int, options: dict[str, Any], packet: bytes
) -> Callable[[], float]:
    """Nanoseconds of the build that redirects packets to AF_XDP sockets."""

    def measure() -> float:
        with loaded(next(variants()), options) as program, contextlib.ExitStack() as stack:
            program.bind_queue(0, xsk.fd)
            if "dead_man_ms" in options:
                dead_man = DeadMan(program, (0,), options["dead_man_ms"] / 1000)
                stack.callback(dead_man.close)
                dead_man.renew()
            return float(run_ns(program, packet, REPEAT, ifindex=ifindex))

    return measure


def interpreted(interpreter: Interpreter, packet: bytes) -> float:
    """Nanoseconds of libpcap's interpreter."""
    began = time.perf_counter_ns()
    interpreter.run_often(packet, REPEAT)
    return (time.perf_counter_ns() - began) / REPEAT


def mirrored(ifindex: int, packet: bytes) -> float:
    """Nanoseconds of the build that copies packets; each time into a new, empty ring."""
    variant = next(mirror_variants())
    ring = CopyRing(0, MIRROR_BYTES, perf=variant.perf)
    try:
        with loaded(variant, {}) as program:
            program.bind_ring(0, ring)
            return float(run_ns(program, packet, REPEAT_MIRROR, ifindex=ifindex))
    finally:
        ring.close()


@contextlib.contextmanager
def loaded(variant: Variant, options: dict[str, Any]) -> Iterator[Program]:
    """The program of a build, loaded with the settings that `record` uses."""
    with Program(
        variant.path, 1, clock=variant.clock, **for_build(options, variant.path)
    ) as program:
        yield program


def _print(rows: list[Row], rounds: int) -> None:
    first, last = rows[0].samples[0], rows[-1].samples[0]
    noise = floor_of([abs(b - a) for a, b in zip(first, last, strict=True)])
    facts = machine.describe()
    click.echo(f"{facts['cpu']}, Linux {facts['kernel']}; {rounds} rounds, ns a packet: median")
    click.echo(f"(least to most); no filter, measured twice a round, differs by {noise:.1f}")
    click.echo()
    click.echo("| program | taken | more than no filter | left | libpcap, taken | libpcap, left |")
    click.echo("|---|---|---|---|---|---|")
    for each in rows:
        taken, left, libpcap_taken, libpcap_left = map(_cell, each.samples)
        more = _cell([a - b for a, b in zip(each.samples[0], first, strict=True)])
        if each is rows[0]:
            more = ""
        click.echo(
            f"| {each.name} | {taken} | {more} | {left} | {libpcap_taken} | {libpcap_left} |"
        )


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
