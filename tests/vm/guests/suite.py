"""One row: the suite in a guest of one kernel with one kind of NIC, and what came of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from guests.archive import KERNEL_SUITES
from guests.cache import GuestError, cache_dir, locked
from guests.images import Images, Qemu, prepare
from guests.machine import ROOT, Run, discard, run, scratch
from guests.nics import NICS

SUITE = "tests/vm/zero_copy"
# Without what the suite does not use: under emulation its import takes 20 s.
LEAN = ("-p", "no:benchmark", "-p", "no:hypothesispytest", "-o", "addopts=-ra")
# What of the lab's own suite every kernel runs on its veth.  All of it is made for a kernel of
# today, and takes an hour under emulation: tests/vm/run 7.2 veth tests/lab
LAB = (
    "tests/lab/test_record_command.py::test_each_queue_has_its_own_file_with_its_own_packets",
    "tests/lab/test_record_command.py"
    "::test_the_program_of_a_killed_recording_is_gone_and_the_next_one_starts",
    "tests/lab/test_record_limits.py"
    "::test_a_recording_of_so_many_packets_ends_by_itself_with_exactly_these",
    "tests/lab/test_record_rotation.py::test_each_file_has_exactly_as_many_packets_as_asked",
    "tests/lab/test_ledger.py::test_a_tiny_ring_under_a_generic_program_counts_every_packet_too",
    "tests/lab/test_replay.py::test_all_kinds_of_frames_arrive_as_tcpdump_sees_them_too",
    "tests/lab/test_replay.py::test_several_files_standard_input_and_gzip_are_one_row_of_packets",
    "tests/lab/test_replay.py::test_an_interface_that_is_not_there_or_down_is_one_line",
)
PYTHON = ROOT / ".venv/bin/python"
# Compiled beforehand: a guest would do it at every start.
WARM = "import pytest, xdpcap.bench_record, xdpcap.replay, xdpcap.ring_bench, xdpcap.split"


@dataclass(frozen=True)
class Outcome:
    """What a row has shown: pytest's closing line, the suite's facts, and the run."""

    kernel: str
    nics: str
    summary: str
    facts: dict[str, Any]
    run: Run

    @property
    def passed(self) -> bool:
        """Every test passed and the kernel is unharmed."""
        return self.run.code == 0 and not self.run.damage


def warm() -> None:
    """Compile what the tests import into the cache, where guests find it."""
    if not PYTHON.is_file():
        raise GuestError("no .venv; run `make setup` first")
    with locked(cache_dir()):
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        writing = {**kept, "PYTHONPYCACHEPREFIX": str(cache_dir() / "pycache")}
        subprocess.run([PYTHON, "-c", WARM], check=True, cwd=ROOT, env=writing)
        here = {**writing, "XDPCAP_VM_KERNEL": "7.2", "XDPCAP_VM_NICS": "veth"}
        collect = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", *LEAN, "--collect-only", "-q"]
        subprocess.run([*collect, SUITE, *LAB], check=True, cwd=ROOT, env=here,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def test(
    qemu: Qemu,
    images: Images,
    row: tuple[str, str],
    arguments: Sequence[str],
    follow: Callable[[str], None] | None = None,
) -> Outcome:
    """Boot the guest and run pytest in it; without a path in its `arguments`, the suite.

    What follows a `--` is a command of its own, without pytest.
    """
    chosen = list(arguments)
    named = any((ROOT / word.partition("::")[0]).exists() for word in chosen)
    if chosen[:1] != ["--"] and not named:
        chosen = [*LEAN, *chosen, SUITE, *(LAB if row[1] == "veth" else ())]
    kernel, nics = row
    directory = scratch()
    environment = {
        "PYTHONPYCACHEPREFIX": str(cache_dir() / "pycache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDPCAP_REQUIRE_LAB": "1",
        "XDPCAP_VM_KERNEL": kernel,
        "XDPCAP_VM_NICS": nics,
        "XDPCAP_VM_FACTS": "/out/facts.json",
    }
    command = [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", *chosen]
    if chosen[:1] == ["--"]:
        command = chosen[1:]
    done = run(
        qemu, images, nics, command,
        environment=environment, directory=directory, follow=follow,
    )  # fmt: skip
    facts = directory / "facts.json"
    return Outcome(
        kernel, nics, _summary(done.output),
        json.loads(facts.read_text()) if facts.exists() else {}, done,
    )  # fmt: skip


def _summary(output: str) -> str:
    """pytest's closing line without its rules."""
    found = re.findall(r"^=+ (.*(?:passed|failed|error|no tests ran).*?) =+$", output, re.M)
    return re.sub(r" in [\d.]+s.*", "", found[-1]) if found else "no result"


def main(argv: Sequence[str]) -> int:
    """`tests/vm/run KERNEL NICS [pytest arguments | -- COMMAND...]`, with its exit code."""
    if len(argv) < 2 or argv[0].startswith("-"):
        print(
            "usage: tests/vm/run KERNEL NICS [pytest arguments | -- COMMAND...]\n"
            f"  KERNEL  {' '.join(KERNEL_SUITES)}\n  NICS    {' '.join(NICS)}",
            file=sys.stderr,
        )
        return 2
    kernel, nics, *arguments = argv
    try:
        if nics not in NICS:
            raise GuestError(f"no NICs {nics!r}; choose among {', '.join(NICS)}")
        qemu, images = prepare([kernel])
        warm()
        outcome = test(
            qemu, images[kernel], (kernel, nics), arguments,
            lambda text: print(text, end="", flush=True),
        )  # fmt: skip
    except GuestError as exc:
        print(f"tests/vm/run: {exc}", file=sys.stderr)
        return 1
    if outcome.run.damage:
        print(f"\nthe guest's kernel:\n{outcome.run.damage}", file=sys.stderr)
    print(
        f"[{images[kernel].release}, {NICS[nics].title}: booted in "
        f"{outcome.run.boot_seconds:.0f} s, {outcome.run.seconds:.0f} s in all]"
    )
    discard(outcome.run.directory)
    return outcome.run.code or (1 if outcome.run.damage else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
