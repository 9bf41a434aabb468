"""eBPF programs compiled for a test, as docs/custom-programs.md has users do it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "programs"
HEADERS = Path(__file__).parents[2] / "bpf"
FLAGS = ("-O2", "-g", "-target", "bpf", "-Wall", "-Werror")
INCLUDES = (f"-I{HEADERS}", f"-I/usr/include/{platform.machine()}-linux-gnu")


def compiled(source: Path, directory: Path, *flags: str) -> Path:
    """The object of a source file, in `directory`; `flags` are more for clang."""
    target = directory / source.with_suffix(".o").name
    command = ["clang", *FLAGS, *flags, *INCLUDES, "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def compiled_text(text: str, directory: Path, *flags: str, name: str = "custom") -> Path:
    """The object of a program's text, behind the includes that every program has."""
    source = directory / f"{name}.bpf.c"
    includes = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include "xdpcap_abi.h"\n'
    source.write_text(f'{includes}{text}\nchar _license[] SEC("license") = "GPL";\n')
    return compiled(source, directory, *flags)
