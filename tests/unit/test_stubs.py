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


def test_a_build_ships_every_stub(tmp_path):
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    shipped = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.pyi")}
    assert shipped == {path.relative_to(ROOT) for path in STUBS.values()}
    assert (tmp_path / "xdpcap" / "py.typed").exists()


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


def bodies(module: str, name: str) -> list[str]:
    """What stands in a class in its .pyx and its .pxd."""
    found = []
    for suffix in (".pyx", ".pxd"):
        source = ROOT / "ext" / Path(*module.split(".")).with_suffix(suffix)
        text = source.read_text() if source.exists() else ""
        for body in re.split(rf"^cdef class {name}\b", text, flags=re.M)[1:]:
            found += re.split(r"^(?=[\w@])", body, maxsplit=1, flags=re.M)[:1]
    return found


def cinit(module: str, name: str) -> list[tuple[str, str]]:
    """Type and name of each parameter of __cinit__, from the source: nothing else tells them."""
    head = re.search(r"    def __cinit__\(self(?:, )?([\s\S]*?)\):\n", bodies(module, name)[0])
    return parameters(head[1]) if head else []


def parameters(text: str) -> list[tuple[str, str]]:
    """("uint32_t", "queue") for each parameter of a signature, "" where it has no type."""
    without_defaults = re.sub(r"=\s*(\([^()]*\)|[^,]*)", "", text)
    parts = [part.replace(" not None", "").split() for part in without_defaults.split(",")]
    return [(" ".join(words[:-1]), words[-1].strip("*") or "*") for words in parts if words]


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
    assert listed == [parameter for _, parameter in cinit(module, name)]


# What a stub calls a type of Cython's; others have the same name.
CALLED = {
    **dict.fromkeys(["uint8_t", "uint16_t", "uint32_t", "uint64_t", "int64_t"], "int"),
    **{"double": "float", "bint": "bool"},
    "const unsigned char[::1]": "bytes | bytearray | memoryview",
}


def wrong(kind: str, annotation: ast.expr | None) -> str:
    """What is wrong with an annotation for a type of Cython's; "" when it is right."""
    given = ast.unparse(annotation).removesuffix(" | None") if annotation else "nothing"
    expected = CALLED.get(kind, kind)
    right = expected in ("", "object", given) or given.startswith(f"{expected}[")
    return "" if right else f"{given} for {kind}"


def functions(module: str) -> list[tuple[ast.FunctionDef, str]]:
    """Each function and method of a stub, with the signature that Cython has embedded."""
    found = []
    for name, node in declared(STUBS[module]).items():
        home = getattr(import_module(module), name, None)
        if isinstance(node, ast.FunctionDef):
            found.append((node, getattr(home, "__doc__", "")))
            continue
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                found.append((part, getattr(getattr(home, part.name, None), "__doc__", "")))
    return found


@pytest.mark.parametrize("module", STUBS)
def test_parameters_have_the_types_that_the_module_takes(module):
    for node, doc in functions(module):
        head = re.match(rf"[\w.]*\b{node.name}\((.*)\)", (doc or "").split("\n")[0])
        if head is None:
            continue  # a property, or one of Python's own
        arguments = [*node.args.args, *node.args.kwonlyargs]
        stated = {argument.arg: argument.annotation for argument in arguments}
        for kind, name in parameters(head[1]):
            if kind:
                assert not wrong(kind, stated[name]), f"{node.name}({name}): {kind}"


@pytest.mark.parametrize(("module", "name"), constructors())
def test_constructors_and_attributes_have_the_types_of_the_class(module, name):
    methods = {
        part.name: part
        for part in declared(STUBS[module])[name].body
        if isinstance(part, ast.FunctionDef)
    }
    for body in bodies(module, name):
        for kind, attribute in re.findall(r"^    cdef readonly (\w+) (\w+)", body, re.M):
            assert not wrong(kind, methods[attribute].returns), attribute
    if "__init__" in methods:
        arguments = methods["__init__"].args
        stated = {one.arg: one.annotation for one in [*arguments.args, *arguments.kwonlyargs]}
        for kind, parameter in cinit(module, name):
            if kind:
                assert not wrong(kind, stated[parameter]), parameter


def test_a_wrong_type_is_found():
    listed = ast.parse("list[int]", mode="eval").body
    assert wrong("uint32_t", listed) == "list[int] for uint32_t"
    assert wrong("list", listed) == "" and wrong("int", None) == "nothing for int"
    read = functions("xdpcap.rings.xsk")
    assert any("uint32_t limit" in (doc or "") for node, doc in read if node.name == "receive")


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
