"""Packages from the archive that this machine's apt is set up with, without installing any.

apt gets a sources list, lists and a cache of its own, and this machine's keys, so that what is
downloaded is verified as ever (apt-get(8), apt.conf(5)).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from guests.cache import GuestError

# Which suite has which kernel; 4.19 went to another archive with its suite.
KERNEL_SUITES = {
    "5.10": "bullseye",
    "6.1": "bookworm",
    "6.12": "trixie",
    "7.2": "trixie-backports",
}
# QEMU 8 is the first with igb.
QEMU_SUITES = {"bookworm": "bookworm-backports"}


def release() -> str:
    """The codename of the Debian that runs here."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    return found[1] if found else ""


def qemu_suite() -> str:
    """The suite of this release that has a QEMU with igb."""
    codename = release()
    return QEMU_SUITES.get(codename, codename)


class Archive:
    """Some suites of the archive, listed when made; a context manager that keeps nothing.

    Raises GuestError when the archive can't be reached or a suite is not in it.
    """

    def __init__(self, suites: Iterable[str]) -> None:
        self._suites = list(dict.fromkeys(suites))
        self._directory = tempfile.TemporaryDirectory(prefix="xdpcap-apt-")
        root = Path(self._directory.name)
        for name in ("lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        mirror = _mirror()
        sources = root / "sources.list"
        sources.write_text("".join(f"deb {mirror} {suite} main\n" for suite in self._suites))
        self._options = [
            f"-oDir::Etc::sourcelist={sources}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State::Lists={root / 'lists'}",
            f"-oDir::Cache={root / 'cache'}",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
            "-oAcquire::Retries=3",
        ]
        try:
            self._apt("get", "-qq", "update", "-oAPT::Update::Error-Mode=any")
        except BaseException:
            self._directory.cleanup()
            raise

    def kernel_packages(self, kernel: str) -> list[str]:
        """The packages that hold the newest kernel of a series: its image and its modules."""
        pattern = rf"^linux-image-{re.escape(kernel)}\.[0-9]+\S*[0-9]-amd64$"
        names = self._apt("cache", "search", "--names-only", pattern).split("\n")
        found = sorted((line.split()[0] for line in names if line), key=_natural)
        if not found:
            raise GuestError(
                f"no kernel {kernel} in {KERNEL_SUITES[kernel]} of the archive; it may have moved "
                "on: see KERNEL_SUITES in tests/vm/guests/archive.py"
            )
        version = found[-1].removeprefix("linux-image-")
        # Since 6.19 the image is an empty package that depends on these two.
        if self._apt("cache", "search", "--names-only", f"^linux-modules-{re.escape(version)}$"):
            return [f"linux-binary-{version}", f"linux-modules-{version}"]
        return [found[-1]]

    def missing_for(self, package: str, suite: str) -> list[str]:
        """The package and what of its dependencies is not installed here, as NAME=VERSION."""
        plan = self._apt(
            "get", "--simulate", "--no-install-recommends", "-t", suite, "install", package
        )
        return [f"{name}={version}" for name, version in _PLANNED.findall(plan)]

    def unpack(self, packages: Iterable[str], into: Path) -> None:
        """Download packages and unpack them below `into`."""
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix="debs-") as debs:
            self._apt("get", "-qq", "download", *packages, cwd=debs)
            for deb in sorted(Path(debs).glob("*.deb")):
                subprocess.run(["dpkg-deb", "--extract", deb, into], check=True)

    def _apt(self, tool: str, *arguments: str, cwd: str | None = None) -> str:
        command = [f"apt-{tool}", *self._options, *arguments]
        done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            why = (said or done.stderr.splitlines() or ["no word of why"])[0]
            suites = ", ".join(self._suites)
            raise GuestError(f"the archive ({suites}): {why.removeprefix('E: ')}")
        return done.stdout

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self._directory.cleanup()


_PLANNED = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", re.M)


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that puts 6.1.0-50 behind 6.1.0-9."""
    parts = re.findall(r"\d+|\D+", text)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _mirror() -> str:
    """The mirror of Debian itself, not of its security updates, that apt is set up with."""
    try:
        listed = subprocess.run(
            ["apt-get", "update", "--print-uris"],
            text=True, capture_output=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as exc:
        raise GuestError(f"guests come from Debian's packages, and apt-get fails: {exc}") from None
    # 'URI/dists/SUITE/InRelease' NAME SIZE, known before any list was fetched; the security
    # archive is debian-security.
    found = re.search(r"'(\S+/debian/)dists/", listed)
    if found is None:
        raise GuestError("apt is set up with no mirror of Debian (a URI that ends in /debian)")
    return found[1]
