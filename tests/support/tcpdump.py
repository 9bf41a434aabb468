"""tcpdump at one end of a lab: what the kernel hands to everybody, seen by other people's code.

with Tcpdump(lab.rx_ns, "rx0", tmp_path / "out.pcap") as tcpdump:
    ...
    assert tcpdump.packets_once(len(frames), sum(map(len, frames))) == frames

An interface's packets go either here or to an XDP program that redirects them.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from capture_files import contents
from timeouts import PATIENCE

from xdpcap.bench.lab import in_netns

# Room for what arrives faster than tcpdump writes, KiB.
BUFFER_KIB = 65536
FILE_HEADER, RECORD_HEADER = 24, 16


class Tcpdump:
    """A running tcpdump that writes every packet of `interface` to `path`."""

    def __init__(self, netns: str, interface: str, path: Path, *arguments: str) -> None:
        self._path = path
        # Without --immediate-mode: its ring has a slot of the MTU's size for each packet.
        command = ["tcpdump", "-i", interface, "-w", str(path), "-U", "-B", str(BUFFER_KIB)]
        self._process: subprocess.Popen[str] = in_netns(
            netns,
            subprocess.Popen,
            [*command, "-Z", "root", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        assert "listening" in self._process.stderr.readline()

    def packets_once(self, count: int, size: int, timeout_s: float = 10.0) -> list[bytes]:
        """End it once it has written `count` packets of `size` bytes together; the packets.

        After the timeout what it has.  AssertionError when it lost packets itself.
        """
        wanted = FILE_HEADER + count * RECORD_HEADER + size
        deadline = time.monotonic() + timeout_s * PATIENCE
        while self._path.stat().st_size < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=10 * PATIENCE)
        dropped = re.search(r"(\d+) packets? dropped by kernel", said)
        assert dropped is not None and dropped[1] == "0", said
        return contents([self._path])

    def __enter__(self) -> Tcpdump:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
