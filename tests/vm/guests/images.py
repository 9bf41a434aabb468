"""What a guest boots and what boots it, made once and kept in the cache.

CACHE/qemu/                QEMU, its firmware and the libraries that this machine lacks
CACHE/busybox/             a busybox that needs no library
CACHE/KERNEL/vmlinux, initramfs, release, made
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guests.archive import KERNEL_SUITES, Archive, qemu_suite
from guests.archive import release as debian_release
from guests.cache import AskedWrongly, GuestError, cache_dir, locked
from guests.initramfs import initramfs, kernel_image

INIT = Path(__file__).parent / "init"
QEMU_MINIMUM = 8


@dataclass(frozen=True)
class Qemu:
    """An emulator: its program, and where its firmware and its libraries are."""

    program: Path
    firmware: Sequence[Path]
    libraries: Sequence[Path]

    @property
    def environment(self) -> dict[str, str]:
        """The environment to start it in."""
        known = os.environ.get("LD_LIBRARY_PATH", "")
        paths = [*map(str, self.libraries), *filter(None, [known])]
        return {**os.environ, **({"LD_LIBRARY_PATH": ":".join(paths)} if paths else {})}


@dataclass(frozen=True)
class Images:
    """What one kernel boots from; `release` is its full version."""

    vmlinux: Path
    initramfs: Path
    release: str


def prepare(kernels: Sequence[str]) -> tuple[Qemu, dict[str, Images]]:
    """QEMU and the images of these kernels, downloaded unless the cache has them.

    Raises GuestError.
    """
    for kernel in kernels:
        if kernel not in KERNEL_SUITES:
            raise AskedWrongly(f"no kernel {kernel} here; choose among {', '.join(KERNEL_SUITES)}")
    cache = cache_dir()
    with locked(cache):
        lacking = [kernel for kernel in kernels if not _is_made(cache / kernel)]
        qemu = _installed_qemu() or _cached_qemu(cache)
        tools = [] if qemu and (cache / "busybox").is_dir() else [debian_release(), qemu_suite()]
        if lacking or tools:
            suites = [*tools, *(KERNEL_SUITES[kernel] for kernel in lacking)]
            print(f"guests: downloading from {', '.join(dict.fromkeys(suites))}", flush=True)
            with Archive(suites) as archive:
                if tools:
                    _fetch_tools(archive, cache, with_qemu=qemu is None)
                for kernel in lacking:
                    _make(archive, cache, kernel)
        qemu = qemu or _cached_qemu(cache)
    if qemu is None:
        raise GuestError(f"the QEMU in {cache} does not start; remove that directory")
    return qemu, {kernel: _images(cache / kernel) for kernel in kernels}


def _fetch_tools(archive: Archive, cache: Path, *, with_qemu: bool) -> None:
    wanted = {"busybox": ("busybox-static", debian_release())}
    if with_qemu:
        wanted["qemu"] = ("qemu-system-x86", qemu_suite())
    for name, (package, suite) in wanted.items():
        packages = archive.missing_for(package, suite) or [package]
        _replace(cache / name, lambda into, p=packages: archive.unpack(p, into))


def _make(archive: Archive, cache: Path, kernel: str) -> None:
    packages = archive.kernel_packages(kernel)

    def make(into: Path) -> None:
        tree = into / "package"
        archive.unpack(packages, tree)
        (modules,) = {*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")}
        (bzimage,) = {*tree.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz")}
        busybox = next(p for p in (cache / "busybox").rglob("busybox") if p.parent.name == "bin")
        (into / "vmlinux").write_bytes(kernel_image(bzimage.read_bytes()))
        (into / "initramfs").write_bytes(initramfs(modules, busybox, INIT))
        (into / "release").write_text(modules.name)
        (into / "made").write_text(_recipe())
        shutil.rmtree(tree)

    _replace(cache / kernel, make)


def _replace(target: Path, make: Callable[[Path], None]) -> None:
    """Have a directory made, so that it is there whole or not at all."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    make(fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _recipe() -> str:
    """Changes when images have to be made anew."""
    sources = (INIT, Path(__file__).parent / "initramfs.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _is_made(directory: Path) -> bool:
    made = directory / "made"
    return made.is_file() and made.read_text() == _recipe()


def _images(directory: Path) -> Images:
    return Images(
        directory / "vmlinux", directory / "initramfs", (directory / "release").read_text()
    )


def _installed_qemu() -> Qemu | None:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        return None
    qemu = Qemu(Path(program), [], [])
    return qemu if _version(qemu) >= QEMU_MINIMUM else None


def _cached_qemu(cache: Path) -> Qemu | None:
    root = cache / "qemu"
    program = root / "usr/bin/qemu-system-x86_64"
    if not program.is_file():
        return None
    # What is installed here already was not downloaded.
    shares = [Path(base) / "usr/share" for base in (root, "/")]
    firmware = [share / name for share in shares for name in ("qemu", "seabios")]
    firmware += [Path(base) / "usr/lib/ipxe/qemu" for base in (root, "/")]
    libraries = sorted({path.parent for path in root.rglob("*.so.*")})
    qemu = Qemu(program, [path for path in firmware if path.is_dir()], libraries)
    return qemu if _version(qemu) >= QEMU_MINIMUM else None


def _version(qemu: Qemu) -> int:
    """The emulator's major version; 0 when it does not even start."""
    done = subprocess.run(
        [qemu.program, "--version"],
        text=True, capture_output=True, check=False, env=qemu.environment,
    )  # fmt: skip
    found = re.search(r"version (\d+)", done.stdout)
    return int(found[1]) if found and done.returncode == 0 else 0
