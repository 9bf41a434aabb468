"""Classic BPF in eBPF, against libpcap's interpreter: each instruction, generated expressions."""

from __future__ import annotations

import pytest
from classic_bpf_programs import (
    ACCEPT,
    EXPRESSIONS,
    PACKETS,
    PROGRAMS,
    REJECT,
    RETURN_A,
    packets_for,
)
from ebpf_interpreter import Machine
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import UsageError
from xdpcap.packets.filter import compile_expression
from xdpcap.packets.filter.assembler import TooFarError
from xdpcap.packets.filter.classic_bpf import OPCODES, Interpreter
from xdpcap.packets.filter.translate import translate

# The verifier wants an end to the loop over headers.
LONGEST_CHAIN = 255


def test_the_programs_hold_every_instruction_of_libpcaps_interpreter():
    assert {code for program in PROGRAMS.values() for code, *_ in program} == OPCODES


@pytest.mark.parametrize("several_buffers", [False, True])
def test_every_instruction_does_what_libpcaps_interpreter_does(several_buffers):
    for name, program in PROGRAMS.items():
        interpreter = Interpreter(program)
        code = translate(program, several_buffers=several_buffers)
        for packet in packets_for(name):
            expected = interpreter.run(packet, len(packet))
            for linear in (None, 14, 20, 60) if several_buffers else (None,):
                result = Machine(code, packet, linear).run()
                if program[-1] == RETURN_A and result not in (0, 1):
                    assert result == expected, (name, len(packet), linear)
                assert bool(result) == bool(expected), (name, len(packet), linear)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, st.binary(min_size=0, max_size=120), st.integers(14, 80))
def test_a_generated_expression_says_of_any_packet_what_libpcap_says(expression, noise, linear):
    try:
        compiled = compile_expression(expression)
    except UsageError:
        assume(False)  # it may divide by zero, or contradict itself
    plain = translate(compiled.instructions, several_buffers=False)
    several = translate(compiled.instructions, several_buffers=True)
    for packet in (noise, numbered_frame(64, 1) + noise, numbered_frame(64, 1)[:40] + noise):
        expected = compiled.matches(packet)
        assert bool(Machine(plain, packet).run()) == expected
        assert bool(Machine(several, packet, linear).run()) == expected


def ipv6_chain(headers: int) -> bytes:
    """An IPv6 packet with so many destination options headers before TCP."""
    chain = b"".join(
        bytes([60 if number + 1 < headers else 6, 0]) + bytes(6) for number in range(headers)
    )
    begin = bytes(12) + b"\x86\xdd\x60" + bytes(5)
    return begin + bytes([60, 64]) + bytes(32) + chain + bytes(20)


@pytest.mark.parametrize("headers", [1, 2, 64, LONGEST_CHAIN - 1, LONGEST_CHAIN])
def test_protochain_follows_as_many_headers_as_the_verifier_does(headers):
    compiled = compile_expression("ip6 protochain 6")
    packet = ipv6_chain(headers)
    assert compiled.matches(packet)
    result = Machine(translate(compiled.instructions, several_buffers=False), packet).run()
    assert bool(result) == (headers < LONGEST_CHAIN)


def test_scratch_memory_that_was_never_written_is_zero():
    code = translate([(0x60, 0, 0, 3), (0x04, 0, 0, 9), RETURN_A], several_buffers=False)
    assert Machine(code, PACKETS[0]).run() == 9


def test_what_can_not_be_reached_is_not_translated():
    # The verifier refuses a program with instructions that nothing leads to.
    bare = translate([ACCEPT], several_buffers=False)
    assert translate([ACCEPT, REJECT, ACCEPT], several_buffers=False) == bare
    assert translate([(0x05, 0, 0, 1), REJECT, ACCEPT], several_buffers=False)[-16:] == bare[-16:]


@pytest.mark.parametrize(
    "program",
    [
        [],
        [(0x00, 0, 0, 1)],
        [(0x05, 0, 0, 7), ACCEPT],
        [(0x05, 0, 0, 0x80000000), ACCEPT],
        [(0xFF, 0, 0, 0), ACCEPT],
        [(0x60, 0, 0, 16), ACCEPT],
        [(0x02, 0, 0, 16), ACCEPT],
        [(0x34, 0, 0, 0), ACCEPT],
        [(0xC4, 0, 0, 1), ACCEPT],
    ],
)
def test_what_is_no_classic_bpf_is_not_translated(program):
    with pytest.raises(ValueError, match="classic BPF"):
        translate(program, several_buffers=True)


def test_a_program_whose_jumps_do_not_reach_is_too_long():
    middle = [(0x20, 0, 0, 0), (0x15, 0, 0, 1)] * 4000
    with pytest.raises(TooFarError):
        translate(
            [(0x15, 0, 1, 0), (0x05, 0, 0, len(middle)), *middle, ACCEPT], several_buffers=True
        )
