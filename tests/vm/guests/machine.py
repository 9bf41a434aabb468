"""One guest: boot it, run one command in it as root, take what it left.

The guest sees this machine's files read-only below a layer in memory, so it runs the checkout
and its .venv as they are built here.  QEMU's TCG emulates it: KVM is not asked for.

QEMU ends with the thread that started it, kill -9 included, and when the event `stop` is set.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guests.images import Images, Qemu
from guests.nics import NICS

ROOT = Path(__file__).parents[3]
CPUS = 2
MEMORY_MIB = 2048
# 5-level page tables (la57) and AVX, which libc uses for every copy where it can, cost more under
# emulation than they bring: booting and importing the command twice took 48 and 31 s of CPU with
# `max`, 31 and 24 with this one, one after the other.
CPU = "Nehalem"
TIMEOUT_S = 7200.0
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
    output, and the kernel's log where it tells of damage."""

    code: int
    output: str
    damage: str
    seconds: float
    boot_seconds: float

    @property
    def passed(self) -> bool:
        """The command succeeded and the kernel is unharmed."""
        return self.code == 0 and not self.damage


def run(
    qemu: Qemu,
    images: Images,
    nics: Sequence[str],
    command: Sequence[str],
    *,
    environment: dict[str, str],
    directory: Path,
    stop: threading.Event,
    follow: Callable[[str], None] | None = None,
) -> Run:
    """Boot a guest with a pair of each of these NICs and run `command` in the checkout.

    `directory` takes what it leaves, and is /out in the guest.  `follow` is called with the
    output as it comes.  `stop` ends the guest.
    """
    set_ = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script = _SCRIPT.format(
        root=shlex.quote(str(ROOT)), environment=set_, command=shlex.join(command)
    )
    (directory / "guest.sh").write_text(script)
    started = time.monotonic()
    with open(directory / "qemu.log", "w") as log:
        process = subprocess.Popen(
            _in_namespace(
                "\n".join(NICS[kind].host for kind in nics),
                _command(qemu, images, nics, directory),
            ),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=qemu.environment,
        )  # fmt: skip
        try:
            ended = _wait(process, directory / "log", follow, stop)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    seconds = time.monotonic() - started
    return Run(
        code=int(_read(directory / "code") or 99),
        output=_read(directory / "log") + ("" if ended else f"\nstopped after {seconds:.0f} s\n"),
        damage=_damage(directory),
        seconds=seconds,
        boot_seconds=float(_read(directory / "booted") or "nan"),
    )


def _command(qemu: Qemu, images: Images, nics: Sequence[str], directory: Path) -> list[str]:
    firmware = [word for path in qemu.firmware for word in ("-L", str(path))]
    # The timer's check counts ticks against loops, and panics where the emulator is kept waiting.
    kernel_arguments = (
        "console=ttyS0 panic=-1 oops=panic quiet nokaslr mitigations=off nowatchdog tsc=reliable "
        "no_timer_check"
    )
    return [
        str(qemu.program), *firmware,
        "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", CPU,
        "-smp", str(CPUS), "-m", str(MEMORY_MIB),
        "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot",
        "-chardev", f"file,id=console,path={directory / 'console'}", "-serial", "chardev:console",
        "-kernel", str(images.vmlinux), "-initrd", str(images.initramfs),
        "-append", kernel_arguments,
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-fsdev", f"local,id=out,path={directory},security_model=none",
        "-device", "virtio-9p-pci,fsdev=out,mount_tag=out",
        *(word for kind in nics for word in NICS[kind].qemu),
    ]  # fmt: skip


def _in_namespace(prepare: str, command: Sequence[str]) -> list[str]:
    """The command in a network namespace of its own, where `prepare` was run first.

    Entering a user namespace would clear what setpriv(1) sets, so that comes last.
    """
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    script = f'{prepare}\nexec setpriv --pdeathsig KILL "$@"'
    return [*unshare, "sh", "-ec", script, "sh", *command]


def _wait(
    process: subprocess.Popen[bytes],
    log: Path,
    follow: Callable[[str], None] | None,
    stop: threading.Event,
) -> bool:
    """Until it ends, handing on what it prints; False when it is to stop or took too long."""
    deadline = time.monotonic() + TIMEOUT_S
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
        if time.monotonic() > deadline or stop.wait(0.1):
            return False


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
