"""Cython has no performance hint to give: nowhere does nogil code take the GIL unseen.

`cdef void f() nogil` without `noexcept` takes the GIL after every call to look for an
exception.  The annotated HTML does not show it; the compiler's hint does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXT = ROOT / "ext"
MODULES = sorted(str(path.relative_to(EXT)) for path in EXT.rglob("*.pyx"))

# In a process of its own: what Cython has to say goes to standard error.
CYTHONIZE = """
import sys
from Cython.Build import cythonize
from setuptools import Extension
include, build, *sources = sys.argv[1:]
for source in sources:
    print(f"== {source}", file=sys.stderr, flush=True)
    cythonize(
        [Extension(source.removesuffix(".pyx").replace("/", "."), [source])],
        include_path=[include],
        build_dir=build,
        force=True,
        quiet=True,
        compiler_directives={"language_level": "3", "show_performance_hints": True},
    )
"""


def compiler(sources: list[str], root: Path, build: Path) -> subprocess.Popen[str]:
    """Cython at work on sources below `root`."""
    return subprocess.Popen(
        [sys.executable, "-c", CYTHONIZE, root, build, *sources],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_of(process: subprocess.Popen[str]) -> dict[str, str]:
    """What it prints about each source, by the file's path; a failure is an error."""
    with process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    parts = (part.partition("\n") for part in said.split("== ")[1:])
    return {name: about for name, _, about in parts}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, str]:
    """Of all modules: importing Cython takes as long as compiling one."""
    count = os.cpu_count() or 1
    shares = [MODULES[number::count] for number in range(min(count, len(MODULES)))]
    build = tmp_path_factory.mktemp("cythonized")
    started = [compiler(share, EXT, build / str(at)) for at, share in enumerate(shares)]
    return {name: about for process in started for name, about in said_of(process).items()}


@pytest.mark.parametrize("name", MODULES)
def test_the_compiler_has_no_performance_hint(said, name):
    assert "performance hint" not in said[name], said[name]


def test_a_function_that_takes_the_gil_at_every_call_is_hinted_at(tmp_path):
    (tmp_path / "slow.pyx").write_text(
        "cdef void f() nogil:\n    pass\n\ndef g():\n    with nogil:\n        f()\n"
    )
    said = said_of(compiler(["slow.pyx"], tmp_path, tmp_path / "build"))
    assert "performance hint" in said["slow.pyx"]
