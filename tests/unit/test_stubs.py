"""The stubs of compiled modules say what the modules have: names, parameters and defaults."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWLIST = ROOT / "tests" / "support" / "stubtest_allowlist.txt"
STUBS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "xdpcap").rglob("*.pyi"))
}
# Modules that Python imports, and so sees.
IMPORTED = {
    name
    for path in [*(ROOT / "xdpcap").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    for name in re.findall(r"^\s*from (xdpcap\.[\w.]+) import", path.read_text(), re.M)
    if (ROOT / "ext" / Path(*name.split(".")).with_suffix(".pyx")).exists()
}


def test_every_compiled_module_that_python_imports_has_a_stub():
    assert IMPORTED - set(STUBS) == set()
    assert len(IMPORTED) > 25
    assert (ROOT / "xdpcap" / "py.typed").exists()


def test_the_stubs_agree_with_the_modules():
    """By mypy's stubtest; constructors are compared below, and private constants left out."""
    command = [sys.executable, "-m", "mypy.stubtest", *STUBS, "--concise", "--ignore-missing-stub"]
    command += ["--ignore-disjoint-bases", "--allowlist", ALLOWLIST, "--ignore-unused-allowlist"]
    result = subprocess.run(
        [*command, "--mypy-config-file", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def declared(path: Path) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """The classes and functions of a stub."""
    tree = ast.parse(path.read_text())
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("module", STUBS)
def test_every_public_class_function_and_method_is_in_the_stub(module):
    stub = declared(STUBS[module])
    for name, value in vars(import_module(module)).items():
        made_here = getattr(value, "__module__", module) == module
        if name.startswith("_") or not callable(value) or not made_here:
            continue
        assert name in stub, name
        if isinstance(value, type) and not hasattr(value, "_fields"):
            members = {node.name for node in stub[name].body if isinstance(node, ast.FunctionDef)}
            public = {member for member in vars(value) if not member.startswith("_")}
            assert public <= members, f"{name}: {public - members}"


def constructors() -> list[tuple[str, str]]:
    found = []
    for module, path in STUBS.items():
        for name, node in declared(path).items():
            if isinstance(node, ast.ClassDef) and "NamedTuple" not in ast.unparse(node):
                found.append((module, name))
    return found


def cinit(module: str, name: str) -> list[str]:
    """The parameters of a class's __cinit__, read from its source: nothing else tells them."""
    source = ROOT / "ext" / Path(*module.split(".")).with_suffix(".pyx")
    body = re.split(rf"^cdef class {name}\b", source.read_text(), flags=re.M)[1]
    body = re.split(r"^(?=\w)", body, maxsplit=1, flags=re.M)[0]
    head = re.search(r"    def __cinit__\(self(?:, )?([\s\S]*?)\):\n", body)
    if head is None or not head[1]:
        return []
    without_defaults = re.sub(r"=\s*(\([^()]*\)|[^,]*)", "", head[1])
    words = [part.replace(" not None", "").split()[-1] for part in without_defaults.split(",")]
    return [word.strip("*") or "*" for word in words]


@pytest.mark.parametrize(("module", "name"), constructors())
def test_a_constructor_has_the_parameters_of_cinit(module, name):
    node = declared(STUBS[module])[name]
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    listed = []
    if "__init__" in methods:
        arguments = methods["__init__"].args
        listed = [argument.arg for argument in arguments.args[1:]]
        listed += ["*"] if arguments.kwonlyargs else []
        listed += [argument.arg for argument in arguments.kwonlyargs]
    if not hasattr(import_module(module), name):
        return  # a protocol, for types alone
    assert listed == cinit(module, name)


def test_a_stub_that_lies_is_found(tmp_path):
    """The comparison above can fail."""
    from xdpcap.packets.flow import hash_of

    assert list(inspect.signature(hash_of).parameters) == ["packet"]
    package = tmp_path / "lie"
    package.mkdir()
    (package / "__init__.py").write_text("def f(a: int) -> int: return a\n")
    (package / "__init__.pyi").write_text("def f(b: int) -> int: ...\n")
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "lie", "--concise"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and "lie.f" in result.stdout
