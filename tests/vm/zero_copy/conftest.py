"""Fixtures of the suite that runs in a guest: its NICs, and what is to be expected of them.

`tests/vm/run` sets XDPCAP_VM_KERNEL and XDPCAP_VM_NICS (kinds, with commas between them); without
them the suite has no guest to run in, and does not begin.  Every test runs on each kind, one kind
after the other.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_command
import pytest
from facts import Expected, expected_of
from leftovers import attached
from nic_pair import NicPair
from recorder import Recorder
from replayer import Replay

from xdpcap.bench.lab import Lab

KERNEL = os.environ.get("XDPCAP_VM_KERNEL", "")
KINDS = [kind for kind in os.environ.get("XDPCAP_VM_NICS", "").split(",") if kind]


def pytest_sessionstart(session: pytest.Session) -> None:
    if not (KERNEL and KINDS):
        pytest.exit("this suite runs in a guest: tests/vm/run KERNEL NICS", returncode=2)
    # On the guest's other CPU, while the tests are collected.
    forked_command.importer()


def pytest_configure(config: pytest.Config) -> None:
    for name, what in (("zero_copy", "only where zero-copy is granted"), ("nics", "only there")):
        config.addinivalue_line("markers", f"{name}: {what}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this guest has to show: `zero_copy` and `nics(...)` say where a test belongs.

    Each is reported with its kind of NIC (guests/rows.py).
    """
    elsewhere = []
    for item in items:
        kind = _kind(item)
        if kind is not None and not _belongs(item, kind):
            elsewhere.append(item)
        elif kind is not None:
            item.user_properties.append(("nics", kind))
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def _kind(item: pytest.Item) -> str | None:
    """The kind of NIC that a test of this suite is for; None for the lab's own."""
    parameters = getattr(item, "callspec", None)
    return parameters.params.get("nics") if parameters else None


def _belongs(item: pytest.Item, kind: str) -> bool:
    if item.get_closest_marker("zero_copy") and not expected_of(KERNEL, kind).zero_copy:
        return False
    wanted = item.get_closest_marker("nics")
    return wanted is None or kind in wanted.args


@pytest.fixture(scope="session", params=KINDS)
def nics(request: pytest.FixtureRequest) -> str:
    """The kind of NIC."""
    return request.param


@pytest.fixture(scope="session")
def expected(nics: str) -> Expected:
    """What this kernel's driver grants."""
    return expected_of(KERNEL, nics)


@pytest.fixture(scope="session")
def pair(nics: str) -> Iterator[NicPair | Lab]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(Lab() if nics == "veth" else NicPair(nics))


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
def facts() -> Iterator[dict[str, dict[str, Any]]]:
    """What each kind of NIC has shown, for the table of all guests."""
    told: dict[str, dict[str, Any]] = {}
    yield told
    if path := os.environ.get("XDPCAP_VM_FACTS"):
        Path(path).write_text(json.dumps(told))


@pytest.fixture
def tell(nics: str, facts: dict[str, dict[str, Any]]) -> Callable[..., None]:
    """`tell(record="zero-copy")`: a fact of these NICs."""
    mine = facts.setdefault(nics, {"release": os.uname().release})
    return lambda **shown: mine.update(shown)
