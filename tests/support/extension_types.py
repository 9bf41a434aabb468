"""The compiled modules of the package, and their classes."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import xdpcap

ROOT = Path(__file__).parents[2]


def compiled_modules() -> dict[str, Path]:
    """The source of each compiled module, by the module's name."""
    names = [module.name for module in pkgutil.walk_packages(xdpcap.__path__, "xdpcap.")]
    sources = {name: ROOT / "ext" / Path(*name.split(".")).with_suffix(".pyx") for name in names}
    return {name: source for name, source in sources.items() if source.exists()}


def extension_types() -> list[str]:
    """Every cdef class, as module:class."""
    return sorted(
        f"{module}:{name}"
        for module, source in compiled_modules().items()
        for name in re.findall(r"^cdef class (\w+)", source.read_text(), re.M)
    )
