"""Fixtures of the suite that runs in a guest: its NICs, and what is to be expected of them.

`tests/vm/run` sets XDPCAP_VM_KERNEL and XDPCAP_VM_NICS; without them the suite has no guest to
run in, and does not begin.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from facts import Expected, expected_of
from nic_pair import NicPair
from observed import attached
from recording import Recorder
from sending import Replay

from xdpcap.lab import Lab

KERNEL, NICS = os.environ.get("XDPCAP_VM_KERNEL", ""), os.environ.get("XDPCAP_VM_NICS", "")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not (KERNEL and NICS):
        pytest.exit("this suite runs in a guest: tests/vm/run KERNEL NICS", returncode=2)


def pytest_configure(config: pytest.Config) -> None:
    for name, what in (("zero_copy", "only where zero-copy is granted"), ("nics", "only there")):
        config.addinivalue_line("markers", f"{name}: {what}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this guest has to show: `zero_copy` and `nics(...)` say where a test belongs."""
    elsewhere = [item for item in items if not _belongs(item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def _belongs(item: pytest.Item) -> bool:
    if item.get_closest_marker("zero_copy") and not expected_of(KERNEL, NICS).zero_copy:
        return False
    wanted = item.get_closest_marker("nics")
    return wanted is None or NICS in wanted.args


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What this kernel's driver grants."""
    return expected_of(KERNEL, NICS)


@pytest.fixture(scope="session")
def pair() -> Iterator[NicPair | Lab]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(Lab() if NICS == "veth" else NicPair())


@pytest.fixture
def lab(pair: NicPair | Lab) -> Iterator[NicPair | Lab]:
    """The pair with both links up; afterwards no program may be left on either end."""
    if isinstance(pair, NicPair):
        pair.wait_up()
    yield pair
    assert attached(pair) is None


@pytest.fixture
def record(lab: Any, tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    """`record("--json", ...)`: the real command on rx0, with memory for a small machine."""
    running: list[Recorder] = []

    def start(*arguments: str, directory: Path | None = None, **options: Any) -> Recorder:
        directory = directory or tmp_path / f"captures{len(running)}"
        directory.mkdir(exist_ok=True)
        small = ("--umem-size", "4MiB", "--stats-interval", "200ms")
        options = {"timeout_s": 60.0, **options}
        running.append(Recorder(lab, directory, [*small, *arguments], **options))
        return running[-1]

    yield start
    for recorder in running:
        if recorder.process.poll() is None:
            recorder.kill()


@pytest.fixture
def replay(lab: Any) -> Iterator[Callable[..., Replay]]:
    """`replay(file, "--top-speed", ...)`: the real command on tx0."""
    running: list[Replay] = []

    def start(*arguments: str | Path) -> Replay:
        running.append(Replay(lab, arguments))
        return running[-1]

    yield start
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()


@pytest.fixture(scope="session")
def tell() -> Iterator[Callable[..., None]]:
    """`tell(zero_copy_rx=True)`: what this guest has shown, for the table of all of them."""
    told: dict[str, Any] = {"release": os.uname().release}
    yield lambda **shown: told.update(shown)
    if path := os.environ.get("XDPCAP_VM_FACTS"):
        Path(path).write_text(json.dumps(told))
