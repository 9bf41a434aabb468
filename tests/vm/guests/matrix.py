"""All rows: a guest for each kernel and kind of NIC, some at a time, and the table of them.

tests/vm/matrix            every row; exit code 1 when one fails
tests/vm/matrix --smoke    the newest kernel's zero-copy on virtio_net and igb, in short
tests/vm/matrix --record   every row, and their facts into results.json and the README
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guests.archive import KERNEL_SUITES
from guests.cache import GuestError
from guests.images import prepare
from guests.machine import ROOT, discard
from guests.nics import NICS
from guests.suite import Outcome, test, warm
from guests.table import README, RESULTS, markdown, with_table

# virtio-plain shows what a device without iommu_platform does on a kernel that has zero-copy.
ROWS = [
    *(("7.2", nics) for nics in ("igb", "virtio", "virtio-mq", "virtio-plain", "veth")),
    *((k, n) for k in ("6.12", "6.1", "5.10") for n in ("igb", "virtio", "virtio-mq", "veth")),
]
SMOKE = [("7.2", "igb"), ("7.2", "virtio")]
SMOKE_TESTS = ("-k", "byte_for_byte or (arrives_whole and 1514)")


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 when every row passed."""
    if set(argv) - {"--smoke", "--record"} or len(argv) > 1:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    smoke = "--smoke" in argv
    rows = SMOKE if smoke else ROWS
    began = time.monotonic()
    try:
        outcomes = _run(rows, SMOKE_TESTS if smoke else ())
    except GuestError as exc:
        print(f"guests: {exc}", file=sys.stderr)
        return 1
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        _show(outcome)
    if not smoke:
        _compare(outcomes, recording="--record" in argv and not failed)
    verdict = f"{len(failed)} of {len(rows)} rows FAILED" if failed else f"{len(rows)} rows passed"
    print(f"guests: {verdict} in {time.monotonic() - began:.0f} s")
    for outcome in outcomes:
        if outcome.passed:
            discard(outcome.run.directory)
    return 1 if failed else 0


def _run(rows: Sequence[tuple[str, str]], arguments: Sequence[str]) -> list[Outcome]:
    """The outcomes in the rows' order, each printed when it is there."""
    qemu, images = prepare([kernel for kernel in KERNEL_SUITES if kernel in dict(rows)])
    warm()

    def one(row: tuple[str, str]) -> Outcome:
        kernel, nics = row
        outcome = test(qemu, images[kernel], row, arguments)
        mark = "passed" if outcome.passed else "FAILED"
        print(
            f"  {images[kernel].release:<22}{NICS[nics].title:<36}{mark}  "
            f"{outcome.run.seconds:4.0f} s  {outcome.summary}",
            flush=True,
        )
        return outcome

    # One more than there are CPUs: a guest with igb spends half of its time waiting for links.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        return list(pool.map(one, rows))


def _show(outcome: Outcome) -> None:
    print(f"\n===== {outcome.kernel} {outcome.nics}: {outcome.summary}")
    print(outcome.run.output[-6000:])
    if outcome.run.damage:
        print(f"----- the guest's kernel:\n{outcome.run.damage}")
    print(f"----- all that it left is in {outcome.run.directory}")


def _compare(outcomes: Sequence[Outcome], *, recording: bool) -> None:
    """Print the table; write it down, or say that what is written down is another."""
    results = {
        f"{o.kernel} {o.nics}": {**o.facts, "result": o.summary} for o in outcomes if o.passed
    }
    print(markdown(results))
    if recording:
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        README.write_text(with_table(README.read_text(), results))
        print(f"guests: written to {RESULTS.relative_to(ROOT)} and {README.relative_to(ROOT)}")
    elif markdown(results) != markdown(json.loads(Path(RESULTS).read_text() or "{}")):
        print("guests: README.md has another table; --record writes this one", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
