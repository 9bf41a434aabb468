"""The suite in a guest of one kernel with some kinds of NICs, and what came of each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guests.archive import KERNEL_SUITES
from guests.cache import AskedWrongly, GuestError, cache_dir, keep, locked, scratch
from guests.images import Images, Qemu, prepare
from guests.lab import lab_tests
from guests.machine import ROOT, Run, run
from guests.nics import NICS, kinds
from guests.rows import LAB_NICS, Row, rows_of

SUITE = "tests/vm/zero_copy"
# Without what the suite does not use: under emulation its import takes 20 s.
LEAN = ("-p", "no:benchmark", "-p", "no:hypothesispytest", "-o", "addopts=-ra")
PYTHON = ROOT / ".venv/bin/python"
# Compiled beforehand: a guest would do it at every start.
PYCACHE = ROOT / "build/guests-pycache"
WARM = "import sys; sys.path.insert(0, 'tests/support'); import forked_command as f; f.import_all()"
INTERRUPTED = 130
USAGE = f"""\
usage: tests/vm/run KERNEL NICS [pytest arguments | -- COMMAND...]
  KERNEL  {" ".join(KERNEL_SUITES)}
  NICS    {" ".join(NICS)}, or several: igb,virtio
Without tests among the arguments it runs {SUITE}; tests/README.md has more."""


@dataclass(frozen=True)
class Guest:
    """A kernel, and the kinds of NICs that it has a pair of each."""

    kernel: str
    nics: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people and file names."""
        return "-".join((self.kernel, *self.nics))


@dataclass(frozen=True)
class Outcome:
    """What a guest has shown: a row for each kind of NIC, and the run itself."""

    guest: Guest
    rows: Sequence[Row]
    run: Run
    kept: Path | None

    @property
    def passed(self) -> bool:
        """Every test passed and the kernel is unharmed: damage is the whole guest's."""
        return self.run.passed


def warm() -> None:
    """Compile what the tests import into the checkout's build/, where guests find it.

    Raises GuestError where that can't be imported.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    writing = {**kept, "PYTHONPYCACHEPREFIX": str(PYCACHE)}
    here = {**writing, "XDPCAP_VM_KERNEL": "7.2", "XDPCAP_VM_NICS": LAB_NICS}
    collect = ["-m", "pytest", "-p", "no:cacheprovider", *LEAN, "--collect-only", "-q"]
    with locked(cache_dir()):
        for words, env in ((("-c", WARM), writing), ((*collect, SUITE, "tests/lab"), here)):
            done = subprocess.run(
                [PYTHON, *words], cwd=ROOT, env=env, check=False, capture_output=True, text=True
            )
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines() or ["no word of why"]
                raise GuestError(f"the checkout is not ready: {said[-1]}; run `make setup`")


def test(
    qemu: Qemu,
    images: Images,
    guest: Guest,
    arguments: Sequence[str],
    *,
    stop: threading.Event,
    follow: Callable[[str], None] | None = None,
) -> Outcome:
    """Boot the guest and run pytest in it; without a path in its `arguments`, the suite.

    What follows a `--` is a command of its own, without pytest.  `stop` ends the guest.
    """
    environment = {
        "PYTHONPYCACHEPREFIX": str(PYCACHE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDPCAP_REQUIRE_LAB": "1",
        "XDPCAP_VM_KERNEL": guest.kernel,
        "XDPCAP_VM_NICS": ",".join(guest.nics),
        "XDPCAP_VM_FACTS": "/out/facts.json",
    }
    with scratch() as directory:
        done = run(
            qemu, images, guest.nics, _command(guest, arguments),
            environment=environment, directory=directory, stop=stop, follow=follow,
        )  # fmt: skip
        facts = directory / "facts.json"
        told = json.loads(facts.read_text()) if facts.exists() else {}
        rows = rows_of(guest.kernel, guest.nics, directory / "results.xml", told)
        bad = not done.passed and not stop.is_set()
        return Outcome(guest, rows, done, keep(directory, guest.title) if bad else None)


def _command(guest: Guest, arguments: Sequence[str]) -> list[str]:
    if arguments[:1] == ["--"]:
        return list(arguments[1:])
    chosen = list(arguments)
    if not any(_is_there(word) for word in chosen):
        lab = lab_tests(guest.kernel) if LAB_NICS in guest.nics else ()
        chosen = [*LEAN, "--junitxml=/out/results.xml", *chosen, SUITE, *lab]
    return [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", *chosen]


def _is_there(word: str) -> bool:
    return (ROOT / word.partition("::")[0]).exists()


def _check(arguments: Sequence[str]) -> None:
    """Raise AskedWrongly for what a guest need not be booted for."""
    if arguments[:1] == ["--"]:
        if not arguments[1:]:
            raise AskedWrongly("no command after --")
        return
    for word in arguments:
        if re.match(r"tests/|[^-].*\.py(::|$)", word) and not _is_there(word):
            raise AskedWrongly(f"no tests at {word}")


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and a terminal that closes set the event, and exit with 130.

    Once: while guests are ended and what they left is removed, nothing interrupts again.  What is
    ignored already (nohup, a shell's background) stays so.
    """
    stop = threading.Event()
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in ends if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        stop.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield stop
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str]) -> int:
    """`tests/vm/run KERNEL NICS [pytest arguments | -- COMMAND...]`, with its exit code."""
    if argv[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(argv) < 2 or argv[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    kernel, nics, *arguments = argv
    try:
        with interruptible() as stop:
            guest = Guest(kernel, kinds(nics))
            _check(arguments)
            qemu, images = prepare([kernel])
            warm()
            outcome = test(
                qemu, images[kernel], guest, arguments,
                stop=stop, follow=lambda text: print(text, end="", flush=True),
            )  # fmt: skip
    except GuestError as exc:
        print(f"tests/vm/run: {exc}", file=sys.stderr)
        return exc.exit_code
    if outcome.run.damage:
        print(f"\nthe guest's kernel:\n{outcome.run.damage}", file=sys.stderr)
    print(
        f"[{images[kernel].release}, {', '.join(NICS[kind].title for kind in guest.nics)}: "
        f"booted in {outcome.run.boot_seconds:.0f} s, {outcome.run.seconds:.0f} s in all]"
    )
    return outcome.run.code or (0 if outcome.passed else 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
