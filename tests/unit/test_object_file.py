"""What a user's object must have, and what is said of one that lacks it; nothing is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from compiled_programs import compiled_text

from xdpcap.errors import UsageError
from xdpcap.programs.object_file import Examined, examine


def a_map(name: str = "xsks_map", kind: str = "XSKMAP", value: str = "__u32") -> str:
    return (
        f"struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 4);"
        f' __type(key, __u32); __type(value, {value}); }} {name} SEC(".maps");\n'
    )


def a_program(name: str = "mine", section: str = "xdp", xsks: str = "xsks_map") -> str:
    return (
        f'SEC("{section}") int {name}(struct xdp_md *ctx)\n'
        f"{{ return bpf_redirect_map(&{xsks}, ctx->rx_queue_index, XDP_PASS); }}\n"
    )


def settings(clock: str) -> str:
    return (
        "const volatile struct xdpcap_settings settings SEC(XDPCAP_SETTINGS) ="
        f" {{ .clock = {clock} }};\n"
    )


PLAIN = Examined("mine", "monotonic", frags=False, has_counters=False, foreign_counters=False)
COUNTERS = a_map("counters", "PERCPU_ARRAY", "struct xdpcap_counters")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (a_map() + a_program(), {}),
        (a_map("sockets") + a_program(xsks="sockets"), {}),
        (a_map() + a_map("others") + a_program(), {}),
        (a_map("xsks_map", "ARRAY") + a_map("real") + a_program(xsks="real"), {}),
        (a_map() + a_program(section="xdp.frags"), {"frags": True}),
        (a_map() + a_program(section="?xdp"), {}),
        (a_map() + a_program() + a_program("elsewhere", "xdp/devmap"), {}),
        (a_map() + COUNTERS + a_program(), {"has_counters": True}),
        (a_map() + a_map("counters", "ARRAY", "__u64") + a_program(), {"foreign_counters": True}),
        (
            a_map() + a_map("counters", "PERCPU_ARRAY", "__u64") + a_program(),
            {"foreign_counters": True},
        ),
        (a_map() + settings("XDPCAP_CLOCK_TAI") + a_program(), {"clock": "tai"}),
        (a_map() + settings("XDPCAP_CLOCK_MONOTONIC") + a_program(), {}),
    ],
)
def test_what_an_object_has_is_found(tmp_path: Path, text: str, changes: dict[str, object]) -> None:
    assert examine(str(compiled_text(text, tmp_path))) == PLAIN._replace(**changes)


def test_one_of_several_programs_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = compiled_text(a_map() + a_program("one") + a_program("two", "xdp.frags"), tmp_path)
    assert examine(str(path), "one") == PLAIN._replace(name="one")
    assert examine(str(path), "two") == PLAIN._replace(name="two", frags=True)


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (
            a_map() + a_program("one") + a_program("two"),
            "",
            "has the XDP programs one, two; choose",
        ),
        (
            a_map() + a_program("one") + a_program("two"),
            "six",
            "program named six; it has one, two",
        ),
        (a_map() + a_program(section="tc"), "", "no XDP program; one is a function in SEC"),
        (a_map("rest", "ARRAY") + 'SEC("xdp") int f(void *c) { return 2; }\n', "", "has no XSKMAP"),
        (a_map("one") + a_map("two") + a_program(xsks="one"), "", "has the XSKMAPs one, two; "),
        (a_map() + settings("77") + a_program(), "", "has clock 77 in its settings"),
        (
            a_map() + "const volatile char settings SEC(XDPCAP_SETTINGS) = 1;\n" + a_program(),
            "",
            "has settings of 1 bytes",
        ),
    ],
)
def test_what_can_feed_no_recording_is_one_line_with_the_way_out(
    tmp_path: Path, text: str, name: str, says: str
) -> None:
    refused(compiled_text(text, tmp_path), name, says)


def refused(path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        examine(str(path), name)
    line = str(caught.value)
    assert says in line and str(path) in line
    assert "\n" not in line and "; " in line, f"no way out: {line}"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "No such file or directory; --bpf names"),
        (lambda path: path.mkdir(), "Is a directory; --bpf names"),
        (lambda path: path.write_text("int main() { return 0; }"), "is no eBPF object"),
        (lambda path: path.write_bytes(b""), "is no eBPF object"),
    ],
)
def test_a_file_that_is_no_object_is_one_line(tmp_path: Path, make, says: str) -> None:
    make(tmp_path / "mine.o")
    refused(tmp_path / "mine.o", "", says)


def test_an_object_cut_short_is_told_in_libbpfs_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = compiled_text(a_map() + a_program(), tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    refused(path, "", "is no eBPF object that libbpf can read (")
    assert capfd.readouterr() == ("", "")


def test_an_object_without_debugging_information_is_told_what_it_lacks(tmp_path: Path) -> None:
    # Maps in SEC(".maps") are described by BTF, which clang writes with -g only.
    path = compiled_text(a_map() + a_program(), tmp_path, "-g0")
    refused(path, "", "BTF is required")


def test_examining_leaves_no_descriptor(tmp_path: Path) -> None:
    path = compiled_text(a_map() + a_program(), tmp_path)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        examine(str(path))
    assert os.listdir("/proc/self/fd") == before
