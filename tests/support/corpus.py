"""Other projects' captures: where they are, and which of them can be read at all.

They are not part of the project: XDPCAP_CAPTURES names their folder, which holds a
manifest.json with a record per file, made by an independent parser.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = Path(os.environ.get("XDPCAP_CAPTURES", ROOT.parent / "shared" / "captures"))

ETHERNET, RAW_IP = 1, {101, 228, 229}

# libpcap opens none of these; each breaks the format, or has no interface to begin with.
REFUSED = {
    "libpcap/pcap-invalid-version-1.pcap": "archaic pcap savefile format",
    "libpcap/pcap-invalid-version-2.pcap": "unsupported pcap savefile version 2.5",
    "libpcap/pcapng-invalid-vers-1.pcapng": "unsupported pcapng savefile version 0.1",
    "libpcap/pcapng-invalid-vers-2.pcapng": "unsupported pcapng savefile version 1.1",
    "libpcap/shb-option-too-long.pcapng": "header and trailer don't match",
}
NO_INTERFACE = re.compile(r"pcapng-test-generator/output_[bl]e/basic/test0(02|17)\.pcapng")


def capture_path(name: str) -> Path:
    """One of the files; skips the test where they are not there."""
    path = CAPTURES / name
    if not path.is_file():
        pytest.skip(f"no {name} in {CAPTURES}; XDPCAP_CAPTURES names another folder")
    return path


def read_manifest() -> list[dict[str, Any]]:
    """A record per file."""
    return json.loads(capture_path("manifest.json").read_text())


def is_capture(entry: dict[str, Any]) -> bool:
    """Whether it is a capture file by its magic number."""
    return not entry["format"].startswith("other:")


def is_refused(name: str) -> bool:
    """Whether libpcap does not open it."""
    return name in REFUSED or NO_INTERFACE.fullmatch(name) is not None
