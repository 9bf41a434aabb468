"""Each package imports what its docstring says, and nothing imports in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("xdpcap/*/__init__.py"))
KNOWN = {*PACKAGES, "errors"}
# `from xdpcap.rings.xsk import Xsk`, `from xdpcap import net, __version__`, and cimport.
IMPORT = re.compile(r"^\s*(?:from|c?import) xdpcap(?:\.(\w+)| c?import (.+))", re.M)


def sources(package: str) -> list[Path]:
    """Python, Cython and .pxd files of a package."""
    places = (ROOT / "xdpcap" / package, ROOT / "ext" / "xdpcap" / package)
    return [path for place in places for path in place.rglob("*.p[yx]*") if path.suffix != ".pyc"]


def imported(package: str) -> set[str]:
    """The other packages that it imports."""
    found = [found for path in sources(package) for found in IMPORT.findall(path.read_text())]
    names = {name for dotted, listed in found for name in re.findall(r"\w+", dotted or listed)}
    return (names & KNOWN) - {package}


def promised(package: str) -> set[str]:
    """The packages that its docstring says it imports."""
    text = ast.get_docstring(ast.parse((ROOT / "xdpcap" / package / "__init__.py").read_text()))
    sentence = re.match(r"[^.]+;\s+imports\s+([^.]+)\.", text or "")
    assert sentence, f"xdpcap/{package}/__init__.py: no sentence «...; imports ....»"
    return set(re.findall(r"\w+", sentence[1])) - {"and"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_its_docstring_says(package):
    assert imported(package) == promised(package)


def test_packages_do_not_import_in_a_circle():
    list(TopologicalSorter({name: imported(name) for name in PACKAGES}).static_order())


def test_declarations_of_c_libraries_import_nothing_of_the_project():
    assert imported("clib") == set()


def test_the_root_holds_packages_and_nothing_else():
    assert {path.name for path in ROOT.glob("xdpcap/*.p*")} <= {
        *("__init__.py", "__main__.py", "errors.py", "py.typed")
    }
    assert not [*ROOT.glob("ext/xdpcap/*.p*")]


@pytest.mark.parametrize(
    ("library", "users"),
    [
        *(("pyroute2", {"net", "bench"}), ("zstandard", {"savefile"})),
        *(("prometheus_client", {"record"}), ("click", {"cli"}), ("rich", {"cli"})),
    ],
)
def test_a_library_is_used_where_it_belongs_only(library, users):
    pattern = re.compile(rf"^\s*(?:from|import) {library}\b", re.M)
    found = {
        package
        for package in PACKAGES
        if any(pattern.search(path.read_text()) for path in sources(package))
    }
    assert found == users
