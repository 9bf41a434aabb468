"""How a program of the user's own is named: --bpf, and xdp: in the place of an interface."""

from __future__ import annotations

import pytest

from xdpcap.errors import UsageError
from xdpcap.options.program_argument import ProgramFile, parse_interface, parse_program, sources


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("a.o", "a.o", ""),
        ("a.o:f", "a.o", "f"),
        ("a.o:", "a.o", ""),
        ("/x/y.o:xdp_1", "/x/y.o", "xdp_1"),
        ("a:b.o", "a:b.o", ""),
        ("a:b.o:f", "a:b.o", "f"),
        ("a:b", "a", "b"),
        ("a:b:", "a:b", ""),
        ("a:1", "a:1", ""),
        ("a b.o:f", "a b.o", "f"),
        ("ä.o:f", "ä.o", "f"),
    ],
)
def test_what_is_behind_the_last_colon_is_a_name_when_it_could_be_one(text, path, name):
    assert parse_program(text) == ProgramFile(path, name)


@pytest.mark.parametrize("text", ["", ":", ":f"])
def test_a_program_without_a_file_is_refused(text):
    with pytest.raises(ValueError, match="names no file; write FILE"):
        parse_program(text)


@pytest.mark.parametrize(
    ("text", "interface", "program"),
    [
        ("eth0", "eth0", None),
        ("xdp0", "xdp0", None),
        ("xdp:a.o:f:eth0", "eth0", ProgramFile("a.o", "f")),
        ("xdp:a.o::eth0", "eth0", ProgramFile("a.o")),
        ("xdp:/x/a:b:f:eth0.7", "eth0.7", ProgramFile("/x/a:b", "f")),
        ("xdp:xdp:f:eth0", "eth0", ProgramFile("xdp", "f")),
    ],
)
def test_an_interface_may_name_its_own_program(text, interface, program):
    assert parse_interface(text) == (interface, program)


@pytest.mark.parametrize(
    "text", ["xdp:", "xdp:a.o", "xdp:a.o:eth0", "xdp:a.o:f:", "xdp::f:eth0", "xdp:a.o:1f:eth0"]
)
def test_half_a_program_in_the_place_of_an_interface_is_refused(text):
    with pytest.raises(UsageError, match="xdp:FILE:NAME:INTERFACE; NAME may be empty"):
        parse_interface(text)


def test_the_program_of_bpf_runs_where_none_is_named():
    everywhere = ProgramFile("all.o")
    interfaces = ["eth0", "xdp:a.o:f:eth1"]
    own = {"eth1": ProgramFile("a.o", "f")}
    assert sources(interfaces, None) == (("eth0", "eth1"), own)
    assert sources(interfaces, everywhere) == (("eth0", "eth1"), {"eth0": everywhere, **own})
    assert sources(["eth0"], None) == (("eth0",), {})
