"""What the program runs on and is compiled with, for --version, --cflags and reports."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

from xdpcap.programs.builds import OBJECTS


def library_versions() -> dict[str, str]:
    """libxdp, libbpf and the kernel, by name; "not found" for a library that doesn't load."""
    return {
        "libxdp": _libxdp(),
        "libbpf": _libbpf(),
        "Linux": platform.release(),
    }


def bpf_cflags() -> list[str]:
    """What clang needs to find xdpcap_abi.h, and the kernel's headers where it would not.

    For -target bpf it does not look where Debian has asm/types.h: in a directory that is
    named after the host's target.
    """
    host = Path("/usr/include") / f"{platform.machine()}-linux-gnu"
    found = [OBJECTS / "include"]
    found += [host] if host.is_dir() else []
    return [f"-I{directory}" for directory in found]


def _libbpf() -> str:
    try:
        version = ctypes.CDLL("libbpf.so.1").libbpf_version_string
    except (OSError, AttributeError):
        return "not found"
    version.restype = ctypes.c_char_p
    return str(version().decode().removeprefix("v"))


def _libxdp() -> str:
    """libxdp has no call for its version; the file that the loader mapped carries it."""
    try:
        ctypes.CDLL("libxdp.so.1")
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            mapped = re.search(r"/libxdp\.so\.([0-9.]+)", maps.read())
    except OSError:
        return "not found"
    return mapped[1] if mapped else "unknown"
