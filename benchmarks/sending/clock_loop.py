"""The limit of pacing as a process: `python -m benchmarks.sending.clock_loop PPS COUNT FILE`.

Reads the clock until each packet's time and sends nothing.  A late time here is caused by the
machine: interrupts, other processes, the hypervisor.  Writes the times to FILE as 64-bit
integers in native byte order.
"""

from __future__ import annotations

import sys
from pathlib import Path

from xdpcap.bench.pieces import clock_times


def main(pps: int, count: int, file: str) -> None:
    """Write the times at which `count` packets would have been sent."""
    Path(file).write_bytes(clock_times(1_000_000_000 // pps, count))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
