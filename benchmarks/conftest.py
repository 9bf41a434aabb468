"""Memory and files for the pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.memory import WarmMemory, touch

# More than the length of any piece's file.
WARM_BYTES = 512 << 20


@pytest.fixture(scope="session")
def warm_memory() -> Iterator[None]:
    """Warm memory, which causes no faults in the host; see `benchmarks.memory`."""
    with WarmMemory(WARM_BYTES):
        yield


@pytest.fixture
def memory_file() -> Iterator[Path]:
    """A path in a memory file system; the file is removed afterwards."""
    path = Path("/dev/shm") / f"xdpcap-bench-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def growing_file(
    benchmark: BenchmarkFixture, memory_file: Path, request: pytest.FixtureRequest
) -> Path:
    """The same for a file that grows: its pages are warm if it is measured."""
    if benchmark.enabled:
        request.getfixturevalue("warm_memory")
        touch(memory_file.parent, WARM_BYTES // 2)
    return memory_file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure pieces that are related to the same memcpy() one after the other."""
    if config.getoption("benchmark_enable"):
        items.sort(key=_size)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Save the statistics of each piece, without all rounds, which take 50 MB."""
    for found in output_json["benchmarks"]:
        found["stats"].pop("data", None)


def _size(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("size", 0) if callspec else 0
