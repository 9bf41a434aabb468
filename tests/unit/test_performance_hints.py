"""Cython has no performance hint to give: nowhere does nogil code take the GIL unseen.

`cdef void f() nogil` without `noexcept` takes the GIL after every call to look for an
exception.  The annotated HTML does not show it; the compiler's hint does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ext" / "xdpcap").glob("*.pyx"))

# In a process of its own: what Cython has to say goes to standard error.
CYTHONIZE = """
import sys
from Cython.Build import cythonize
from setuptools import Extension
name, source, include, build = sys.argv[1:]
cythonize(
    [Extension(name, [source])],
    include_path=[include],
    build_dir=build,
    force=True,
    compiler_directives={"language_level": "3", "show_performance_hints": True},
)
"""


def cythonize(name: str, source: Path, include: Path, build: Path) -> str:
    """Everything the compiler prints about one module; a failure fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", CYTHONIZE, name, source.name, include, build],
        cwd=source.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_compiler_has_no_performance_hint(path, tmp_path):
    said = cythonize(f"xdpcap.{path.stem}", path, ROOT / "ext", tmp_path)
    assert "performance hint" not in said, said


def test_a_function_that_takes_the_gil_at_every_call_is_hinted_at(tmp_path):
    source = tmp_path / "slow.pyx"
    source.write_text("cdef void f() nogil:\n    pass\n\ndef g():\n    with nogil:\n        f()\n")
    assert "performance hint" in cythonize("slow", source, tmp_path, tmp_path / "build")
