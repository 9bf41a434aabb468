"""The cache of guests keeps what is in use, and nothing that a killed run has left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guests.cache import YOUNG_S, GuestError, keep, scratch
from guests.nics import NICS, kinds

VM = Path(__file__).parent.parent / "vm"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDPCAP_VM_CACHE", str(tmp_path))
    return tmp_path


def test_a_scratch_directory_goes_with_its_run_even_one_that_fails(cache: Path) -> None:
    with pytest.raises(GuestError), scratch() as directory:
        (directory / "log").write_text("")
        raise GuestError("no archive")
    assert list(cache.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_another_uses_is_not(cache: Path) -> None:
    code = (
        "import sys; from guests.cache import scratch\n"
        "with scratch() as d: print(d, flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "PYTHONPATH": str(VM)}
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen(command, **pipes) as other:
        theirs = Path(other.stdout.readline().strip())
        with scratch() as mine:
            assert {mine, theirs} == set(cache.iterdir())
        other.kill()
        other.wait()
    assert theirs.is_dir()
    with scratch() as mine:
        assert set(cache.iterdir()) == {mine}


def test_a_directory_that_was_never_locked_goes_when_it_is_old(cache: Path) -> None:
    old, young = cache / "run-old", cache / "run-young"
    for path in (old, young):
        path.mkdir()
    long_ago = time.time() - 2 * YOUNG_S
    os.utime(old, (long_ago, long_ago))
    with scratch():
        assert young.is_dir() and not old.exists()


def test_what_failed_is_kept_in_the_place_of_the_last_that_did(cache: Path) -> None:
    for text in ("first", "second"):
        with scratch() as directory:
            (directory / "log").write_text(text)
            kept = keep(directory, "7.2-igb")
    assert list(cache.iterdir()) == [kept] == [cache / "failed-7.2-igb"]
    assert (kept / "log").read_text() == "second"


def test_no_two_nics_of_a_guest_have_the_same_address() -> None:
    macs = [mac for nics in NICS.values() for mac in nics.macs]
    assert len(set(macs)) == len(macs) == 2 * len(NICS)


def test_kinds_that_there_are_not_are_refused_with_those_that_there_are() -> None:
    assert kinds("igb,virtio-mq,igb") == ("igb", "virtio-mq")
    with pytest.raises(GuestError, match="no NICs 'e1000'; choose among veth, virtio, "):
        kinds("igb,e1000")
