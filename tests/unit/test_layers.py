"""The layers of docs/architecture.md, asserted from the imports themselves.

The table is here and not read from the document, so that neither follows the other by
itself; the last test holds the document to naming what exists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, EXTENSIONS = ROOT / "xdpcap", ROOT / "ext" / "xdpcap"

# A module imports from the floors below its own.
FLOORS = {
    8: {"cli"},
    7: {"record", "replay", "dump", "ring_bench", "bench_lab", "bench_record"},
    6: {
        "outside",
        "recorder",
        "outputs",
        "events",
        "verify",
        "replay_warnings",
        "simulator",
        "granted",
        "preparation",
        "dump_lines",
        "live_source",
    },
    5: {
        *("engine", "files", "pipe", "discard", "attachment", "dispatcher", "dispatcher_guardian"),
        *("dead_man", "pins", "exporter", "mirror_attachment", "observer_attachment"),
        "nic_attachment",
        "own_program",
        *("feed", "sender", "split", "tx_attachment", "launch_time", "packet_source"),
        *("filter_file", "metadata", "programs", "time_stamps", "hardware_clock"),
    },
    4: {
        *("_capture", "_loop", "_waiting", "_state", "_packetmeta", "_simulate", "_bench"),
        *("_mirrorloop", "_admission", "_ringlook"),
        *("_transmit", "_txloop", "_ringloop"),
    },
    3: {
        *("_xsk", "_socketcalls", "_umem", "_txmetadata", "_bpf", "_maps", "_dispatcher"),
        *("_objects", "_settings", "_nicprogram", "_testrun", "_copyrings", "_observer"),
        *("_sink", "_blocks", "_retire", "_sinkstate", "_generator", "_plainring"),
    },
    2: {
        *("_savefile", "_stream", "_counted", "_reader", "_packets", "_flow", "_plan", "_stages"),
        *("_opened", "_look", "_cbpf"),
        *("_addressmap", "_readdress", "_rewrite", "_sides", "_conversations", "_deviceclock"),
    },
    1: {"libxdp", "libbpf", "liburing", "libpcap"},
}
# Imported from anywhere; they import each other at most.
LEAVES = {
    *("errors", "units", "config", "stats", "verdict", "report"),
    *("kernel", "privileges", "variants", "descriptors", "__init__"),
    *("program_file", "checks", "addresses", "listen", "instant", "rewrite_rules"),
    *("replay_config", "replay_report", "replay_verdict"),
    *("ring_bench_config", "ring_bench_report", "cpu_time", "frame_room"),
    *("sweep", "sweep_plot"),
    *("recording_process", "dump_config"),
    *("bench_record_config", "bench_record_report", "stage_account"),
    "outliving",
}
# Beside the floors: imported from GIL floors, they import leaves, and what NEIGHBOURS names.
BESIDE = {"net", "savefile", "filter", "dissect"}
# On top of net and floor 3; imported by the measurement in it, and nothing else.
LAB = {"lab"}
ENTRY = {"__main__"}

# Neighbours on one floor that build on each other.
NEIGHBOURS = {
    ("engine", "files"),  # a worker and the chain of files it fills
    ("engine", "attachment"),  # ... and the sockets it empties
    ("observer_attachment", "mirror_attachment"),  # rings that another's program fills
    ("nic_attachment", "mirror_attachment"),  # ... or a program on the NIC
    ("mirror_attachment", "attachment"),  # with rings in place of sockets
    ("attachment", "programs"),  # ... and what feeds them
    ("programs", "dispatcher"),  # a program that joins others is one to attach
    *((part, "own_program") for part in ("attachment", "programs", "dispatcher")),  # a user's
    ("attachment", "dead_man"),  # ... or to pass by, when its recorder hangs
    # What packets come with.
    *(("programs", "metadata"), ("attachment", "metadata")),
    *(("nic_attachment", "metadata"), ("observer_attachment", "metadata")),
    ("dispatcher", "pins"),  # where word is left of a user's member
    ("programs", "pins"),  # ... and of who records an interface already
    # Whose clock their times are by, and that of a NIC.
    *((part, "time_stamps") for part in ("attachment", "metadata", "programs")),
    *((part, "hardware_clock") for part in ("time_stamps", "attachment")),
    *((part, "hardware_clock") for part in ("launch_time", "sender", "tx_attachment")),
    ("dispatcher", "dispatcher_guardian"),  # ... and is taken out by a process of its own
    ("tx_attachment", "launch_time"),  # sockets that leave the time to the NIC
    ("sender", "launch_time"),  # ... and by which clock
    ("tx_attachment", "programs"),  # some drivers send only with a program on
    ("pipe", "files"),  # standard output is a chain of one file
    ("discard", "files"),  # ... and nowhere a chain of none
    ("bench_lab", "lab"),  # what measures in a lab makes one
    ("_capture", "_loop"),  # the Python face of the loop
    ("_loop", "_mirrorloop"),  # its part for copies in rings
    *((part, "_admission") for part in ("_loop", "_mirrorloop")),  # may a record be written
    *((part, "_state") for part in ("_mirrorloop", "_admission")),
    *((part, "_state") for part in ("_capture", "_loop", "_waiting")),  # one worker's
    *((part, "_waiting") for part in ("_capture", "_loop")),  # between two batches
    *(("_packetmeta", part) for part in ("_state", "_waiting")),  # what a packet's header says
    *((part, "_packetmeta") for part in ("_loop", "_mirrorloop", "_simulate")),
    ("_transmit", "_txloop"),  # ... and of the one that sends
    ("_sink", "_blocks"),  # the Python face of the blocks
    *((part, "_sinkstate") for part in ("_blocks", "_retire")),  # one sink's
    ("_blocks", "_retire"),  # ... and what became of its blocks
    *(("_simulate", part) for part in ("_loop", "_state", "_waiting")),  # the loop, fed from memory
    ("_bpf", "_objects"),  # what an object file has
    ("_bpf", "_settings"),  # ... and what it is told before it is loaded
    ("_settings", "_maps"),  # ... how many CPUs there may be among it
    ("_nicprogram", "_bpf"),  # one that is loaded into a NIC
    ("_testrun", "_bpf"),  # what a loaded program does with one packet
    ("_bpf", "_maps"),  # a program counts in a map
    ("_dispatcher", "_bpf"),  # a joined program is a program that libxdp loads
    ("libxdp", "libbpf"),  # libxdp takes libbpf's objects
    ("filter", "_cbpf"),  # what libpcap makes of an expression
    ("_xsk", "_umem"),  # a socket lies in its memory
    ("_xsk", "_socketcalls"),  # what it asks of the kernel by its descriptor
    ("_observer", "_maps"),  # it counts as a program of ours does
    ("_observer", "_objects"),  # ... and keeps what libbpf says
    ("_copyrings", "_maps"),  # how many CPUs may have a ring
    ("_txmetadata", "_xsk"),  # both with room for metadata before each packet
    ("_txmetadata", "_umem"),
    ("_plainring", "_umem"),  # the frame pool on plain memory, for tests
    ("_packets", "_flow"),  # a packet in memory knows its flow's hash
    ("_reader", "_packets"),  # what is read
    ("_reader", "_opened"),  # ... and from where
    *(("_look", part) for part in ("_opened", "_counted", "_cbpf")),  # the same, to look at
    ("_opened", "_counted"),  # byte by byte
    ("_plan", "_packets"),  # when each is due
    ("_addressmap", "_flow"),  # one mixing function
    ("_readdress", "_addressmap"),  # what an address becomes, in a packet's headers
    ("_readdress", "_flow"),  # where those headers are
    *(("_rewrite", part) for part in ("_packets", "_flow", "_addressmap", "_readdress")),
    *(("_sides", part) for part in ("_packets", "_flow")),  # which interface sends a packet
    *(("_conversations", part) for part in ("_packets", "_flow")),
}

FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
GIL_FLOOR = 5  # from here up Python runs; below, nogil code


def modules() -> set[str]:
    """Every module or package right under `xdpcap`, compiled ones and .pxd files too."""
    python = {path.stem for path in PACKAGE.glob("*.py")}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    compiled = {path.stem for path in EXTENSIONS.glob("*.pyx")}
    declared = {path.stem for path in EXTENSIONS.glob("*.pxd")}
    return python | packages | compiled | declared


def python_imports(path: Path) -> Iterator[str]:
    """The modules that a Python file imports, dotted; type checking's alone left out."""
    tree = ast.parse(path.read_text(), path)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def cython_imports(path: Path) -> Iterator[str]:
    """The modules that a .pyx or .pxd imports or cimports, dotted."""
    text = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
    text = re.sub(r"#.*", "", text)
    for found in re.finditer(r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|.+)$", text, re.M):
        for name in found[2].strip("()").split(","):
            if name.strip():
                yield f"{found[1]}.{name.split()[0]}"
    for found in re.finditer(r"^\s*c?import\s+([\w.]+)", text, re.M):
        yield found[1]


def sources(name: str) -> Iterator[Path]:
    for directory in (PACKAGE, EXTENSIONS):
        for suffix in (".py", ".pyx", ".pxd"):
            path = directory / f"{name}{suffix}"
            if path.exists():
                yield path
    yield from sorted((PACKAGE / name).rglob("*.py"))


def imported(name: str) -> set[str]:
    """Everything that a module imports, dotted."""
    names: set[str] = set()
    for path in sources(name):
        names.update(python_imports(path) if path.suffix == ".py" else cython_imports(path))
    return names


def imports_within(name: str) -> set[str]:
    """The modules of this package that a module imports, itself left out."""
    known = modules()
    found = set()
    for dotted in imported(name):
        first, *rest = dotted.split(".")
        if first == "xdpcap":
            found.add(rest[0] if rest and rest[0] in known else "__init__")
    return found - {name}


def allowed(name: str) -> set[str]:
    """What a module may import."""
    neighbours = {there for here, there in NEIGHBOURS if here == name}
    if name in LEAVES | BESIDE:
        return LEAVES | neighbours
    if name in LAB:
        return LEAVES | {"net"} | {low for low, floor in FLOOR_OF.items() if floor < 4}
    if name in ENTRY:
        return {"cli"}
    floor = FLOOR_OF[name]
    below = {low for low, its_floor in FLOOR_OF.items() if its_floor < floor}
    return LEAVES | below | neighbours | (BESIDE if floor >= GIL_FLOOR else set())


def test_every_module_has_its_place_and_every_place_its_module():
    placed = set(FLOOR_OF) | LEAVES | BESIDE | LAB | ENTRY
    assert modules() == placed


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_from_below_only(name):
    assert imports_within(name) <= allowed(name)


def test_no_module_imports_itself_through_others():
    order = TopologicalSorter({name: imports_within(name) for name in modules()})
    order.prepare()  # CycleError names the circle


def test_every_named_pair_of_neighbours_is_real():
    assert {(here, there) for here, there in NEIGHBOURS if there in imports_within(here)} == (
        NEIGHBOURS
    )


def test_the_imports_that_this_file_finds_are_those_that_are_there():
    # One of each kind, so that a parser that finds nothing can't pass everything.
    assert "libxdp" in imports_within("_xsk")  # cimport in brackets
    assert "libbpf" in imports_within("_bpf")  # cimport *
    assert "_umem" in imports_within("_xsk")  # cimport in the .pxd
    assert "errors" in imports_within("_umem")  # import in a .pyx
    assert "kernel" in imports_within("record")  # from xdpcap import kernel
    assert "config" in imports_within("cli")  # in a package's module


@pytest.mark.parametrize(
    ("library", "users"),
    [
        *(("pyroute2", {"net", "lab"}), ("zstandard", {"savefile"})),
        ("prometheus_client", {"exporter"}),
        *(("click", {"cli"}), ("rich", {"cli"})),
    ],
)
def test_a_library_is_used_where_it_belongs_only(library, users):
    found = {name for name in modules() for used in imported(name) if used.startswith(library)}
    assert found == users


def test_the_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = set()
    for name in modules() - {"__init__", "__main__"}:
        shown = rf"{name}/" if (PACKAGE / name).is_dir() else rf"{name}(\.py)?"
        if not re.search(rf"(?<![\w.]){shown}(?!\w)", text):
            missing.add(name)
    assert not missing
