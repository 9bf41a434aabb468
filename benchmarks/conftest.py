"""Memory and files for the pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.memory import WarmMemory, touch

# More than a piece's file is ever long.
WARM_BYTES = 512 << 20


@pytest.fixture(scope="session")
def warm_memory() -> Iterator[None]:
    """Memory whose price is not the host's; see `benchmarks.memory`."""
    with WarmMemory(WARM_BYTES):
        yield


@pytest.fixture
def memory_file() -> Iterator[Path]:
    """A path in a memory file system; what is there is removed afterwards."""
    path = Path("/dev/shm") / f"xdpcap-bench-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def growing_file(
    benchmark: BenchmarkFixture, memory_file: Path, request: pytest.FixtureRequest
) -> Path:
    """The same for a file that grows: the pages that it will get are warm if it is measured."""
    if benchmark.enabled:
        request.getfixturevalue("warm_memory")
        touch(memory_file.parent, WARM_BYTES // 2)
    return memory_file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure what is related to the same memcpy() together: rows of one size in a row."""
    if config.getoption("benchmark_enable"):
        items.sort(key=_size)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Save what was found of each piece, and not every single round: that is 50 MB."""
    for found in output_json["benchmarks"]:
        found["stats"].pop("data", None)


def _size(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("size", 0) if callspec else 0
