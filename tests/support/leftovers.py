"""What a recording has left: on the interface, in the files, on standard error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forked_command import ROOT
from recorder import Result

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import frame_number
from xdpcap.bench.lab.traffic import LIVE_FRAMES_SINCE
from xdpcap.host import kernel
from xdpcap.net import get_link
from xdpcap.programs.program import Attached, attached_program
from xdpcap.savefile.reader import read_packets


def attached(lab: Lab) -> Attached | None:
    """The program on a lab's receiver."""
    return in_netns(lab.rx_ns, attached_program, lab.rx_ifindex)


def promiscuity(lab: Lab) -> int:
    """How many ask for the receiver's promiscuous mode."""
    return in_netns(lab.rx_ns, get_link, "rx0").promiscuity


def numbers_in(paths: Iterable[Path], **options: Any) -> list[int]:
    """The numbers of the frames in files, in their order; options as `read_packets` takes them."""
    return [frame_number(p.data) for path in paths for p in read_packets(path, **options)]


def missing(numbers: list[int], lost_on_the_way: int) -> int:
    """How many numbers are missing up to the last one, beyond those that the veth's ring lost.

    Asserts that each is there once, in order.
    """
    assert numbers == sorted(set(numbers))
    return max(0, numbers[-1] + 1 - len(numbers) - lost_on_the_way)


def error_lines(result: Result) -> list[str]:
    """The lines of standard error that tell of a failure."""
    marks = ("; ", " while recording")
    told = [line for line in result.stderr.splitlines() if line.startswith("xdpcap: ")]
    return [line for line in told if any(m in line for m in marks) and "Ctrl-C stops" not in line]


def load_on(lab: Lab) -> subprocess.Popen[bytes]:
    """A process that sends at full rate until it is killed."""
    kernel.require(LIVE_FRAMES_SINCE, "traffic at full rate")
    code = "from xdpcap.bench.lab.traffic import _blast\n_blast(100_000_000, 60, None, None)"
    return in_netns(lab.tx_ns, subprocess.Popen, [sys.executable, "-c", code], cwd=ROOT)
