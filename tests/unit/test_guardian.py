"""What a recording changes on the host: told to the guardian first, and put back last first."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from xdpcap.host import helper_process
from xdpcap.net.guardian import Guardian

# In place of the guardian: keeps the recorder's pipe as it does, and says what it was told.
ECHO = "import sys; told = sys.stdin.read(); print(told, end='')"


class Fake:
    """A change that is in a list while it is made."""

    def __init__(self, kind: str, made: list[str], *, effect: bool = True, fails=None) -> None:
        self.kind, self._made, self._effect, self._fails = kind, made, effect, fails

    def plan(self):
        return [{"was": self.kind}] if self._effect else []

    def apply(self):
        self._made.append(self.kind)
        if self._fails is not None:
            raise self._fails

    def restore(self):
        self._made.append(f"{self.kind} restored")


@pytest.fixture
def children(monkeypatch):
    """The processes that were started in place of guardians."""
    started = []

    def start(module):
        assert module == "xdpcap.net.guardian"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", ECHO], **pipes))
        return started[-1]

    monkeypatch.setattr(helper_process, "start", start)
    return started


def test_one_process_is_told_of_every_change_in_its_order(children, caplog):
    made = []
    with caplog.at_level("INFO", "xdpcap.net.guardian"), Guardian() as guardian:
        for kind in ("offloads", "hash"):
            guardian.make(Fake(kind, made))
        assert made == ["offloads", "hash"]
    (child,) = children
    assert child.returncode == 0 and made == ["offloads", "hash"]
    told = [json.loads(record.message) for record in caplog.records]
    assert told == [["offloads", [{"was": "offloads"}]], ["hash", [{"was": "hash"}]]]


def test_what_has_no_effect_needs_no_process(children):
    made = []
    with Guardian() as guardian:
        guardian.make(Fake("offloads", made, effect=False))
    assert (children, made) == ([], ["offloads"])


def test_without_its_process_everything_is_put_back_here_last_first(children):
    made = []
    with Guardian() as guardian:
        guardian.make(Fake("offloads", made))
        children[0].kill()
        children[0].wait()
        guardian.make(Fake("hash", made))
    assert made == ["offloads", "hash", "hash restored", "offloads restored"]


def test_a_change_that_fails_is_told_of_before_and_put_back_since_half_may_be_made(children):
    made = []
    with pytest.raises(ValueError, match="refused"), Guardian() as guardian:
        guardian.make(Fake("hash", made, fails=ValueError("refused")))
        pytest.fail("it goes on")
    assert children[0].returncode == 0
    with pytest.raises(ValueError, match="refused"), Guardian() as guardian:
        guardian.make(Fake("offloads", made))
        children[1].kill()
        guardian.make(Fake("hash", made, fails=ValueError("refused")))
    assert made == ["hash", "offloads", "hash", "hash restored", "offloads restored"]


def test_a_real_one_ends_with_its_input_and_forgives_a_line_that_was_cut_off():
    with helper_process.start("xdpcap.net.guardian") as child:
        child.stdin.write(json.dumps(["offloads", []]) + "\n" + '["offl')
        child.stdin.close()
        assert (child.wait(20), child.stdout.read()) == (0, "")


def test_a_process_that_outlives_is_not_ended_by_signals_that_are_the_recorders():
    with helper_process.start("xdpcap.net.guardian") as child:
        # What was written is read once it runs; a signal before that would end it.
        deadline = time.monotonic() + 20
        while not _ignores_sigterm(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.1)
        child.stdin.close()
        assert child.wait(20) == 0


def _ignores_sigterm(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        ignored = next(line for line in status if line.startswith("SigIgn"))
    return bool(int(ignored.split()[1], 16) >> 14 & 1)
