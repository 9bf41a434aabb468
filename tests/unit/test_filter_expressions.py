"""Expressions that libpcap compiles, and what it says of packets."""

from __future__ import annotations

import pytest

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import UsageError
from xdpcap.packets.filter import SNAPLEN, compile_expression
from xdpcap.packets.filter.classic_bpf import Interpreter

UDP = numbered_frame(120, 1)
RET_K = 0x06
# LINKTYPE_RAW and LINKTYPE_LINUX_SLL.
RAW_IP, COOKED = 101, 113


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("", True),
        ("  ", True),
        ("udp", True),
        ("tcp", False),
        ("ip and len = 120", True),
        ("not ip or greater 121", False),
    ],
)
def test_a_packet_matches_as_the_expression_says(expression, matches):
    assert compile_expression(expression).matches(UDP) is matches


def test_a_match_returns_the_snapshot_length():
    assert compile_expression("", snaplen=96).instructions == ((RET_K, 0, 0, 96),)
    assert compile_expression("").instructions == ((RET_K, 0, 0, SNAPLEN),)


def test_the_length_on_the_wire_is_another_than_what_was_captured():
    long = compile_expression("greater 1000")
    assert not long.matches(UDP)
    assert long.matches(UDP, 1000)
    # What was not captured can't be looked at, whatever the packet's length.
    assert not compile_expression("ether[130] = 0").matches(UDP, 1000)


def test_an_expression_is_for_its_linktype():
    assert compile_expression("udp", RAW_IP).matches(UDP[14:])
    assert not compile_expression("udp").matches(UDP[14:])
    assert compile_expression("inbound", COOKED).matches(bytes(16))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("tcp prot 3", "syntax error"),
        ("port nosuchservice", "nosuchservice"),
        ("len / 0 = 1", "division by zero"),
        # Nothing that only a live socket would know: it would compile, and never match.
        ("inbound", "inbound/outbound not supported"),
        ("tcp\0udp", "a NUL byte"),
        ("host \udcff", "filter 'host "),
    ],
)
def test_what_libpcap_does_not_compile_is_one_line_with_its_words(expression, said):
    with pytest.raises(UsageError) as caught:
        compile_expression(expression)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "see pcap-filter(7)" in str(caught.value)


def test_a_long_expression_is_quoted_in_part():
    with pytest.raises(UsageError) as caught:
        compile_expression("tcp\n" + " or tcp" * 1000 + " (")
    assert len(str(caught.value)) < 160
    assert "..." in str(caught.value)


def test_an_unknown_linktype_is_libpcaps_to_refuse():
    with pytest.raises(UsageError, match="60000"):
        compile_expression("tcp", 60000)


@pytest.mark.parametrize(
    "instructions",
    [
        [],
        [(0x00, 0, 0, 1)],  # runs beyond its end
        [(0xFF, 0, 0, 0), (RET_K, 0, 0, 0)],  # no such instruction
        [(0x05, 0, 0, 7), (RET_K, 0, 0, 0)],  # jumps beyond its end
        [(0x60, 0, 0, 16), (RET_K, 0, 0, 0)],  # no such word of scratch memory
        [(0x34, 0, 0, 0), (RET_K, 0, 0, 0)],  # divides by zero
    ],
)
def test_the_interpreter_takes_no_program_that_it_could_not_run(instructions):
    with pytest.raises(ValueError, match="no valid classic BPF"):
        Interpreter(instructions)


def test_the_interpreter_returns_what_the_program_does():
    first_word = Interpreter([(0x20, 0, 0, 0), (0x16, 0, 0, 0)])
    assert first_word.run(b"\x01\x02\x03\x04\x05", 5) == 0x01020304
    assert first_word.run(b"\x01\x02\x03", 5) == 0
    assert first_word.run(b"", 5) == 0
