"""All rows: each kernel with each kind of NIC, some guests at a time, and the table of them.

tests/vm/matrix [KERNEL...]            every row, of these kernels; exit code 1 when one fails
tests/vm/matrix --smoke                the newest kernel's zero-copy on virtio_net and igb, in short
tests/vm/matrix --record [KERNEL...]   the same, and their facts into results.json and the README

A kernel's NICs are in one guest, so that booting and importing, half a minute, is done once for
all of them; the newest kernel has by far the most tests, so its guests are three.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from guests.archive import KERNEL_SUITES
from guests.cache import GuestError
from guests.images import prepare
from guests.machine import ROOT
from guests.nics import NICS
from guests.rows import Row
from guests.suite import Guest, Outcome, interruptible, test, warm
from guests.table import README, RESULTS, markdown, with_table

# The longest first, so that none is left alone at the end.  virtio-plain shows what a device
# without iommu_platform does on a kernel that has zero-copy.
GUESTS = [
    Guest("7.2", ("veth",)),
    Guest("7.2", ("igb",)),
    Guest("7.2", ("virtio", "virtio-mq", "virtio-plain")),
    *(Guest(kernel, ("igb", "virtio", "virtio-mq", "veth")) for kernel in ("5.10", "6.1", "6.12")),
]
SMOKE = [Guest("7.2", ("igb",)), Guest("7.2", ("virtio",))]
SMOKE_TESTS = ("-k", "byte_for_byte or (arrives_whole and 1514)")


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 when every row passed."""
    if argv in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        return 0
    smoke, recording = list(argv) == ["--smoke"], "--record" in argv
    kernels = [word for word in argv if word in KERNEL_SUITES]
    if len(argv) != smoke + recording + len(kernels):
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    guests = SMOKE if smoke else [g for g in GUESTS if not kernels or g.kernel in kernels]
    began = time.monotonic()
    try:
        with interruptible() as stop:
            outcomes = _run(guests, SMOKE_TESTS if smoke else (), stop)
    except GuestError as exc:
        print(f"guests: {exc}", file=sys.stderr)
        return 1
    for outcome in outcomes:
        _show_what_failed(outcome)
    failed = sum(not _row_passed(outcome, row) for outcome in outcomes for row in outcome.rows)
    good = all(outcome.passed for outcome in outcomes)
    if not smoke:
        _compare(outcomes, recording=recording and good)
    count = sum(len(outcome.rows) for outcome in outcomes)
    verdict = f"{count} rows passed" if good else f"{failed} of {count} rows FAILED"
    print(f"guests: {verdict} in {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def _run(guests: Sequence[Guest], arguments: Sequence[str], stop: threading.Event) -> list[Outcome]:
    """The outcomes in the guests' order, the rows of each printed when it has ended."""
    wanted = {guest.kernel for guest in guests}
    qemu, images = prepare([kernel for kernel in KERNEL_SUITES if kernel in wanted])
    warm()

    def one(guest: Guest) -> Outcome:
        outcome = test(qemu, images[guest.kernel], guest, arguments, stop=stop)
        for row in () if stop.is_set() else outcome.rows:
            mark = "passed" if _row_passed(outcome, row) else "FAILED"
            print(
                f"  {images[guest.kernel].release:<22}{NICS[row.nics].title:<36}{mark}  "
                f"{row.seconds:4.0f} s  {row.summary}",
                flush=True,
            )
        return outcome

    # One more than there are CPUs: a guest with igb spends half of its time waiting for links.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        try:
            return list(pool.map(one, guests))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _row_passed(outcome: Outcome, row: Row) -> bool:
    """Its tests passed; damage, or a guest that died, is all its rows'."""
    return row.passed and not outcome.run.damage


def _show_what_failed(outcome: Outcome) -> None:
    if outcome.passed:
        return
    print(f"\n===== {outcome.guest.title}")
    print(outcome.run.output[-6000:])
    if outcome.run.damage:
        print(f"----- the guest's kernel:\n{outcome.run.damage}")
    print(f"----- all that it left is in {outcome.kept}")


def _compare(outcomes: Sequence[Outcome], *, recording: bool) -> None:
    """Print the table; write it down, or say that what is written down is another.

    Rows that were not run are those that are written down.
    """
    names = {f"{guest.kernel} {kind}" for guest in GUESTS for kind in guest.nics}
    stored = json.loads(RESULTS.read_text())
    rows = [row for outcome in outcomes for row in outcome.rows if _row_passed(outcome, row)]
    new = {f"{row.kernel} {row.nics}": {**row.facts, "result": row.summary} for row in rows}
    results = {**{name: facts for name, facts in stored.items() if name in names}, **new}
    print(markdown(results))
    if recording:
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        README.write_text(with_table(README.read_text(), results))
        print(f"guests: written to {RESULTS.relative_to(ROOT)} and {README.relative_to(ROOT)}")
    elif markdown(results) != markdown(stored):
        print("guests: README.md has another table; --record writes this one", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
