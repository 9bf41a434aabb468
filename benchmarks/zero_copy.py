"""Zero-copy compared with copy mode on a guest's NICs, in one run: the ratio of the rates.

    tests/vm/run 7.2 igb -- .venv/bin/python -m benchmarks.zero_copy

An emulated NIC has an emulator's speed: only the ratio of the two is meaningful, and it shows
the kernel's saving, not a wire rate.  Rounds alternate (copy, zero-copy, copy, ...).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / name) for name in ("tests/support", "tests/vm", "tests/vm/zero_copy")]

from nic_pair import NicPair  # noqa: E402

from xdpcap.bench.lab import in_netns  # noqa: E402

ROUNDS = 4
DURATION = "2s"
COMMAND = [sys.executable, "-m", "xdpcap", "bench"]
MODES = {"copy": "off", "zero-copy": "require"}


def main() -> int:
    """Print a row for sending and one for receiving, for each type of NIC in the guest."""
    for kind in os.environ["XDPCAP_VM_NICS"].split(","):
        with NicPair(kind) as lab, lab.channels(1):
            print(f"{lab.driver}, packets of 60 bytes, {ROUNDS} rounds of {DURATION}, one queue")
            for what in (sending, receiving):
                print(compared(lab, what), flush=True)
    return 0


def compared(lab: NicPair, what: Callable[[NicPair, str], float]) -> str:
    """The row of one measurement: the ratio of the modes, and the noise."""
    rates: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(ROUNDS):
        for name, zero_copy in MODES.items():
            lab.wait_up()
            rates[name].append(what(lab, zero_copy))
    ratios = [z / c for z, c in zip(rates["zero-copy"], rates["copy"], strict=True)]
    noise = max(max(row) / min(row) for row in rates.values())
    return (
        f"{what.__name__:<10} zero-copy / copy: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); one mode compared with itself differs "
        f"by up to {noise:.2f}"
    )


def sending(lab: NicPair, zero_copy: str) -> float:
    """Packets per second sent by tx0."""
    return Measurement(lab.tx_ns, "tx-only", "tx0", zero_copy).report()["pps"]


def receiving(lab: NicPair, zero_copy: str) -> float:
    """Packets per second received by rx0 while tx0 sends at full rate."""
    receiver = Measurement(lab.rx_ns, "rx-drop", "rx0", zero_copy)
    sender = Measurement(lab.tx_ns, "tx-only", "tx0", "auto", "6s")
    pps = receiver.report()["pps"]
    sender.report()
    return pps


class Measurement:
    """`xdpcap bench MODE` on one end."""

    def __init__(
        self, namespace: str, mode: str, interface: str, zero_copy: str, duration: str = DURATION
    ) -> None:
        options = ["--zero-copy", zero_copy, "--duration", duration, "--queues", "0", "--json"]
        self._process = in_netns(
            namespace, subprocess.Popen, [*COMMAND, mode, "-i", interface, *options],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def report(self) -> dict[str, float]:
        """Wait for its end; returns its report."""
        stdout, stderr = self._process.communicate(timeout=120)
        if self._process.returncode:
            raise SystemExit(stderr)
        report: dict[str, float] = json.loads(stdout)
        return report


if __name__ == "__main__":
    sys.exit(main())
