"""What holds for every kind of test."""

from __future__ import annotations

import os
from typing import Any

import pytest
from corpus import read_manifest

# A guest makes up no examples, and importing hypothesis takes 10 s there.
if "XDPCAP_VM_KERNEL" not in os.environ:
    from hypothesis import settings

    # The tests say what is right, benchmarks/ how fast: a busy machine fails no test.
    settings.register_profile("xdpcap", deadline=None)
    settings.load_profile("xdpcap")

# `make debug` preloads AddressSanitizer into this process. Wireshark's tools hang under
# it, so children get it only from those who start our own code (recorder.py).
if "libasan" in os.environ.get("LD_PRELOAD", ""):
    os.environ["XDPCAP_TEST_PRELOAD"] = os.environ.pop("LD_PRELOAD")


@pytest.fixture(scope="module")
def manifest() -> list[dict[str, Any]]:
    """What is known of other projects' captures, a record per file (corpus.py)."""
    return read_manifest()
