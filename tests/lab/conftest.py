"""Fixtures of the lab: root, network namespaces and a veth pair.

A machine that can't have a lab skips these tests and says why; with
XDPCAP_REQUIRE_LAB=1 they fail instead, so that nothing is missed where it counts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from other_programs import OtherProgram, build, pinned
from recorder import Recorder

from xdpcap.bench.lab import Lab, sweep
from xdpcap.bench.lab.traffic import LIVE_FRAMES_SINCE
from xdpcap.errors import KernelError, UsageError
from xdpcap.host import kernel
from xdpcap.programs.pinned_counters import BPFFS

# What a machine may lack: privileges, or a kernel with namespaces, veth and AF_XDP.
LACKING = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS)

# Of the command's 32 MiB each start touches every page, a tenth of a second.  What a test says
# itself comes after this, and counts.
LITTLE_BLOCKS = ("--write-buffer", "1MiB", "--write-buffer-count", "4")


@functools.cache
def why_no_lab() -> str | None:
    """What keeps this machine from having a lab; None when nothing does.

    Any other failure is a mistake of ours and shows as one.
    """
    if os.geteuid() != 0:
        return "the lab needs root"
    sweep()
    try:
        with Lab():
            return None
    except KernelError as exc:
        if exc.errno in LACKING:
            return f"no lab on this machine: {exc}"
        raise


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = why_no_lab()
    if reason is None:
        return
    if os.environ.get("XDPCAP_REQUIRE_LAB") == "1":
        pytest.fail(f"{reason} (XDPCAP_REQUIRE_LAB=1)", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test that asks for traffic at full rate skips on a kernel that has none to give."""
    try:
        return (yield)
    except UsageError as exc:
        if kernel.version() < LIVE_FRAMES_SINCE and str(exc).startswith("traffic at full rate"):
            pytest.skip(str(exc))
        raise


@pytest.fixture(scope="session", autouse=True)
def bpf_file_system() -> Iterator[None]:
    """A BPF file system where recordings pin their counters; one made here goes at the end."""
    if os.geteuid() != 0 or BPFFS.is_mount():
        yield
        return
    subprocess.run(["mount", "-t", "bpf", "bpf", BPFFS], check=True)
    yield
    subprocess.run(["umount", "--lazy", BPFFS], check=True)


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """A factory of labs, with `Lab`'s parameters; they go with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Lab(*args, **kwargs))


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A lab of one queue."""
    return make_lab()


@pytest.fixture
def record(
    request: pytest.FixtureRequest, make_lab: Callable[..., Lab], tmp_path: Path
) -> Iterator[Callable[..., Recorder]]:
    """A factory of `Recorder`: `record("--json", lab=..., directory=..., ready=...)`.

    Without a lab of its own it records in the fixture `lab`, without a directory into
    `captures` under tmp_path.  What still runs at the end of the test is killed.
    It writes in LITTLE_BLOCKS.
    """
    running: list[Recorder] = []
    # Asking for make_lab and lab here makes the recorders end before their labs do.
    default_lab = request.getfixturevalue("lab") if "lab" in request.fixturenames else None

    def start(*arguments: str, lab: Lab | None = None, **options: Any) -> Recorder:
        chosen = lab or default_lab
        assert chosen is not None, "the test has no `lab`: pass one"
        directory = options.pop("directory", tmp_path / "captures")
        directory.mkdir(exist_ok=True)
        recorder = Recorder(chosen, directory, [*LITTLE_BLOCKS, *arguments], **options)
        running.append(recorder)
        return recorder

    yield start
    for recorder in running:
        if recorder.process.poll() is None:
            recorder.kill()


@pytest.fixture
def nothing_pinned(lab: Lab) -> Iterator[None]:
    """Of a dispatcher nothing is pinned before the test and after it."""
    assert pinned(lab) == []
    yield
    assert pinned(lab) == []


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., OtherProgram]]:
    """A factory of `OtherProgram`s, attached until the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(lab: Lab, **options: Any) -> OtherProgram:
            return stack.enter_context(OtherProgram(lab, build(tmp_path), **options))

        yield start


@pytest.fixture
def patient_record(record: Callable[..., Recorder]) -> Callable[..., Recorder]:
    """`record` with patience for a machine that is emulated."""
    return lambda *arguments, **options: record(*arguments, **{"timeout_s": 60.0, **options})
