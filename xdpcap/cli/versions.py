"""Versions of what the program runs on, as found in this process: for --version and reports."""

from __future__ import annotations

import ctypes
import platform
import re


def library_versions() -> dict[str, str]:
    """libxdp, libbpf and the kernel, by name; "not found" for a library that doesn't load."""
    return {
        "libxdp": _libxdp(),
        "libbpf": _libbpf(),
        "Linux": platform.release(),
    }


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
