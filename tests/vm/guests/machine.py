"""One guest: boot it, run one command in it as root, take what it left.

The guest sees this machine's files read-only below a layer in memory, so it runs the checkout
and its .venv as they are built here.  QEMU's TCG emulates it: KVM is not asked for.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guests.cache import GuestError, cache_dir
from guests.images import Images, Qemu
from guests.nics import NICS

ROOT = Path(__file__).parents[3]
CPUS = 2
MEMORY_MIB = 2048
TIMEOUT_S = 1200.0
# What in a kernel's log means that something broke in it.
DAMAGE = ("WARNING:", "BUG:", "Oops", "general protection", "Call Trace:", "list_add corruption")

_SCRIPT = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cut -d' ' -f1 /proc/uptime > /out/booted
cd {root}
({environment} {command}) > /out/log 2>&1 < /dev/null
echo $? > /out/code.new && mv /out/code.new /out/code
dmesg > /out/dmesg
echo o > /proc/sysrq-trigger
sleep 10
"""


@dataclass(frozen=True)
class Run:
    """What a guest left: the command's exit code (99 when the guest did not live to tell), its
    output, the kernel's log where it tells of damage, and the directory of all of it."""

    code: int
    output: str
    damage: str
    seconds: float
    boot_seconds: float
    directory: Path


def run(
    qemu: Qemu,
    images: Images,
    nics: str,
    command: Sequence[str],
    *,
    environment: dict[str, str],
    directory: Path,
    follow: Callable[[str], None] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Run:
    """Boot a guest with these NICs and run `command` in the checkout.

    `directory` takes what it leaves, and is /out in the guest.  `follow` is called with the
    output as it comes.
    """
    if nics not in NICS:
        raise GuestError(f"no NICs {nics!r}; choose among {', '.join(NICS)}")
    directory.mkdir(parents=True, exist_ok=True)
    set_ = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script = _SCRIPT.format(
        root=shlex.quote(str(ROOT)), environment=set_, command=shlex.join(command)
    )
    (directory / "guest.sh").write_text(script)
    started = time.monotonic()
    with open(directory / "qemu.log", "w") as log:
        process = subprocess.Popen(
            _in_namespace(NICS[nics].host, _command(qemu, images, nics, directory)),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=qemu.environment,
        )  # fmt: skip
        try:
            ended = _wait(process, directory / "log", follow, timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    seconds = time.monotonic() - started
    return Run(
        code=int(_read(directory / "code") or 99),
        output=_read(directory / "log") + ("" if ended else f"\nno end after {timeout_s:.0f} s\n"),
        damage=_damage(directory),
        seconds=seconds,
        boot_seconds=float(_read(directory / "booted") or "nan"),
        directory=directory,
    )


def scratch() -> Path:
    """A fresh directory for what a guest leaves."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=cache_dir()))


def discard(directory: Path) -> None:
    """Remove what a guest left."""
    shutil.rmtree(directory, ignore_errors=True)


def _command(qemu: Qemu, images: Images, nics: str, directory: Path) -> list[str]:
    firmware = [word for path in qemu.firmware for word in ("-L", str(path))]
    kernel_arguments = (
        "console=ttyS0 panic=-1 oops=panic quiet nokaslr mitigations=off nowatchdog tsc=reliable"
    )
    return [
        str(qemu.program), *firmware,
        "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max",
        "-smp", str(CPUS), "-m", str(MEMORY_MIB),
        "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot",
        "-chardev", f"file,id=console,path={directory / 'console'}", "-serial", "chardev:console",
        "-kernel", str(images.vmlinux), "-initrd", str(images.initramfs),
        "-append", kernel_arguments,
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-fsdev", f"local,id=out,path={directory},security_model=none",
        "-device", "virtio-9p-pci,fsdev=out,mount_tag=out",
        *NICS[nics].qemu,
    ]  # fmt: skip


def _in_namespace(prepare: str, command: Sequence[str]) -> list[str]:
    """The command in a network namespace of its own, where `prepare` was run first."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    return [*unshare, "sh", "-ec", f'{prepare}\nexec "$@"', "sh", *command]


def _wait(
    process: subprocess.Popen[bytes],
    log: Path,
    follow: Callable[[str], None] | None,
    timeout_s: float,
) -> bool:
    """Until it ends, handing on what it prints; False when that took too long."""
    deadline = time.monotonic() + timeout_s
    shown = 0
    while True:
        ended = process.poll() is not None
        if follow is not None and log.exists():
            with open(log, errors="replace") as file:
                file.seek(shown)
                text = file.read()
                shown = file.tell()
            if text:
                follow(text)
        if ended:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _damage(directory: Path) -> str:
    """The kernel's log from the first line on that tells of damage; "" when none does."""
    if not (directory / "code").exists():
        said = _read(directory / "qemu.log") + _read(directory / "console")
        return "\n".join(said.splitlines()[-40:]) or "the guest ended without a word"
    lines = _read(directory / "dmesg").splitlines()
    for number, line in enumerate(lines):
        if any(mark in line for mark in DAMAGE):
            return "\n".join(lines[number : number + 40])
    return ""


def _read(path: Path) -> str:
    return path.read_text(errors="replace").strip("\0") if path.exists() else ""
