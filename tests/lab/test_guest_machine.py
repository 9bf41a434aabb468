"""However a run of guests is ended, no emulator goes on and nothing is left in the cache.

The emulator is one that only waits: what is looked at is who ends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked_command import ROOT
from timeouts import PATIENCE

WITHIN_S = 10.0
# What is ignored stays so, and whoever started these tests may have (nohup).
RUN = """
import signal
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
from guests.images import Images, Qemu
from guests.suite import Guest, interruptible, test
qemu = Qemu(Path({program!r}), [], [])
with interruptible() as stop:
    test(qemu, Images(Path("/"), Path("/"), "7.2"), Guest("7.2", ("virtio",)), [], stop=stop)
"""


@pytest.fixture
def emulator(tmp_path: Path) -> Path:
    """A program that tells its process id and then waits."""
    path = tmp_path / "emulator"
    path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    path.chmod(0o755)
    return path


def wait_until(condition) -> None:
    deadline = time.monotonic() + WITHIN_S * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_an_emulator_ends_with_its_run_and_what_it_left_goes(tmp_path, emulator, number):
    cache, told = tmp_path / "cache", tmp_path / "pid"
    code = RUN.format(program=str(emulator))
    paths = {"XDPCAP_VM_CACHE": str(cache), "PYTHONPATH": str(ROOT / "tests/vm")}
    run = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **paths}, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: told.exists() and told.read_text().strip())
    emulating = int(told.read_text())
    assert is_alive(emulating)
    run.send_signal(number)
    _, said = run.communicate(timeout=WITHIN_S * PATIENCE)
    wait_until(lambda: not is_alive(emulating))
    left = list(cache.glob("run-*"))
    if number == signal.SIGKILL:
        assert len(left) == 1  # the next run removes it (unit/test_vm_cache.py)
        return
    assert (run.returncode, said, left) == (130, "interrupted\n", [])
