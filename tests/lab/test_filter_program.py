"""The filter in the recording program, run by the kernel on packets (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import errno
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from abi_header import CONSTANTS
from classic_bpf_programs import ACCEPT, EXPRESSIONS, PROGRAMS, REJECT, packets_for
from corpus import CAPTURES, ETHERNET, capture_path
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from kernel_requirements import MULTI_BUFFER
from receiver_namespace import in_receiver

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host import kernel
from xdpcap.packets.filter import PacketFilter, compile_expression
from xdpcap.packets.filter.classic_bpf import Interpreter
from xdpcap.packets.filter.splice import spliced
from xdpcap.packets.filter.translate import Insn, translate
from xdpcap.programs.builds import OBJECTS
from xdpcap.programs.counters import Verdicts
from xdpcap.programs.program import Program
from xdpcap.programs.test_run import run_action, run_once
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk
from xdpcap.savefile.reader import read_packets

# enum xdp_action of linux/bpf.h.
XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
# BPF_PROG_TEST_RUN takes no packet shorter than an Ethernet header, without xdp.frags none
# that is longer than a page less headroom and tail, and with it none that is much longer than this.
SHORTEST, LONGEST = 14, {"plain": 3000, "frags": 65535}
# Before 5.14 it tells the action alone, of queue 0.
TAKES_CONTEXT = kernel.version() >= (5, 14)
BUILDS = ["plain", *(["frags"] if kernel.has_multi_buffer() else [])]


@contextmanager
def filtering(
    instructions: list[Insn], build: str, xsk: Xsk | None, unmatched: str = "pass"
) -> Iterator[Program]:
    """The recording program of a build with a filter, and the socket for queue 0."""
    path = OBJECTS / f"record_{build}.bpf.o"
    code = translate(instructions, several_buffers=build != "plain")
    image = spliced(path.read_bytes(), code)
    with Program(str(path), 2, image=image, unmatched=unmatched) as program:
        if xsk is not None:
            program.bind_queue(0, xsk.fd)
        yield program


@contextmanager
def a_socket() -> Iterator[Xsk]:
    with Umem(1 << 20) as umem, Xsk(umem, "rx0", 0) as xsk:
        yield xsk


def takes(program: Program, packet: bytes, ifindex: int) -> bool:
    """Whether the program redirects the packet; else it must have left it alone."""
    if not TAKES_CONTEXT:
        return bool(run_action(program, packet) == XDP_REDIRECT)
    action, metadata, data = run_once(program, packet, ifindex=ifindex)
    assert data == packet
    assert (action, bool(metadata)) in ((XDP_REDIRECT, True), (XDP_PASS, False))
    return bool(action == XDP_REDIRECT)


def oracle() -> dict[str, list[tuple[str, set[int]]]]:
    """By expression: the files it was asked of, and which packets of them libpcap accepts."""
    found = defaultdict(list)
    for line in capture_path("filter_oracle.jsonl").read_text().splitlines():
        row = json.loads(line)
        found[row["expr"]].append((row["file"], set(row["match"])))
    return found


@pytest.mark.parametrize("build", BUILDS)
@in_receiver
def test_the_program_takes_the_packets_that_libpcap_accepts(lab, build):
    files: dict[str, list[bytes]] = {}
    asked = taken = 0
    with a_socket() as xsk:
        for expression, rows in oracle().items():
            with filtering(compile_expression(expression).instructions, build, xsk) as program:
                for name, accepted in rows:
                    if name not in files:
                        packets = list(read_packets(CAPTURES / name, tolerant=True))
                        assert all(packet.linktype == ETHERNET for packet in packets)
                        files[name] = [packet.data for packet in packets]
                    assert len(files[name]) >= max(accepted, default=0)
                    for number, data in enumerate(files[name], 1):
                        if SHORTEST <= len(data) <= LONGEST[build]:
                            found = takes(program, data, lab.rx_ifindex)
                            assert found == (number in accepted), (expression, name, number)
                            asked, taken = asked + 1, taken + found
    assert asked > 20_000
    assert taken > 1000


@pytest.mark.parametrize("build", BUILDS)
@in_receiver
def test_every_instruction_does_what_libpcaps_interpreter_does(lab, build):
    with a_socket() as xsk:
        for name, instructions in PROGRAMS.items():
            interpreter = Interpreter(instructions)
            with filtering(instructions, build, xsk) as program:
                for packet in packets_for(name):
                    expected = bool(interpreter.run(packet, len(packet)))
                    assert takes(program, packet, lab.rx_ifindex) == expected, (name, len(packet))


@pytest.mark.parametrize("build", BUILDS)
@in_receiver
def test_a_generated_expression_says_of_any_packet_what_libpcap_says(lab, build):
    with a_socket() as xsk:

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(EXPRESSIONS, st.binary(max_size=120))
        def check(expression: str, noise: bytes) -> None:
            try:
                compiled = compile_expression(expression)
            except UsageError:
                assume(False)  # it may divide by zero, or contradict itself
            with filtering(compiled.instructions, build, xsk) as program:
                head = numbered_frame(64, 1)
                for packet in (bytes(14) + noise, head + noise, head[:40] + noise):
                    assert takes(program, packet, lab.rx_ifindex) == compiled.matches(packet)

        check()


@MULTI_BUFFER
@pytest.mark.parametrize("at", [14, 3500, 4094, 4095, 4096, 8191, 9000, 40000, 65530])
@in_receiver
def test_a_filter_sees_the_bytes_of_every_buffer(lab, at):
    packet = bytearray(numbered_frame(60, 1).ljust(65535, b"\0"))
    packet[at : at + 4] = b"\xca\xfe\xba\xbe"
    expressions = {
        f"ether[{at}:4] = 0xcafebabe": True,
        f"ether[{at}:4] = 0xcafebabf": False,
        f"ether[{at + 1}:2] = 0xfeba and ether[{at + 3}] = 0xbe": True,
        f"ether[ether[14] * 0 + {at}:4] = 0xcafebabe": True,
        "len = 65535": True,
        "less 65534": False,
        "ether[65534] = 0": True,
        "ether[65534:2] = 0": False,
    }
    with a_socket() as xsk:
        for expression, expected in expressions.items():
            instructions = compile_expression(expression).instructions
            with filtering(instructions, "frags", xsk) as program:
                assert takes(program, bytes(packet), lab.rx_ifindex) == expected, expression


@pytest.mark.parametrize("build", BUILDS)
@in_receiver
def test_what_does_not_match_is_counted_as_filtered_and_left_alone_or_dropped(lab, build):
    instructions = compile_expression("tcp").instructions
    udp = numbered_frame(100, 1)
    for unmatched, action in (("pass", XDP_PASS), ("drop", XDP_DROP)):
        with a_socket() as xsk, filtering(instructions, build, xsk, unmatched) as program:
            assert run_action(program, udp) == action
            assert program.verdicts()[0] == Verdicts(filtered=1, filtered_bytes=100)


@pytest.mark.parametrize("build", BUILDS)
@in_receiver
def test_a_queue_without_a_socket_is_not_filtered(lab, build):
    instructions = compile_expression("tcp").instructions
    with filtering(instructions, build, None, "drop") as program:
        udp = numbered_frame(100, 1)
        assert run_action(program, udp) == XDP_PASS
        assert program.verdicts()[0] == Verdicts(passed=1, passed_bytes=100)


@pytest.mark.parametrize("build", BUILDS)
def test_a_hundred_terms_are_accepted_by_the_verifier(build):
    expressions = [
        " or ".join(f"(host 10.0.0.{number} and port {number})" for number in range(100)),
        " or ".join(f"(net 10.{number}.0.0/16 and tcp[{number}:2] = 3)" for number in range(100)),
        "ip6 protochain 6 or ip protochain 17",
    ]
    for expression in expressions:
        with filtering(compile_expression(expression).instructions, build, None):
            pass


@pytest.mark.parametrize("build", BUILDS)
def test_a_program_that_is_too_long_for_the_verifier_is_refused_by_it(build):
    # A longer sequence of branches than the verifier remembers (8192).
    branches = [(0x2D, 0, 1, 0)] * 9000
    instructions = [(0x20, 0, 0, 0), (0x07, 0, 0, 0), (0x20, 0, 0, 4), *branches, ACCEPT, REJECT]
    with pytest.raises(KernelError) as caught, filtering(instructions, build, None):
        pass
    said = str(PacketFilter("tcp").explain(caught.value))
    assert said.startswith("filter 'tcp': too long for the kernel (")
    other = KernelError("attach(native, ifindex 7)", errno.ENOSPC)
    assert PacketFilter("tcp").explain(other) is other


def test_a_program_without_a_place_for_a_filter_is_not_spliced():
    legacy = (OBJECTS / "record_legacy.bpf.o").read_bytes()
    for image in (legacy, b"", legacy[:1000], bytes(4096)):
        with pytest.raises(XdpcapError, match="no function for a filter; `make setup`"):
            spliced(image, bytes(64))


def test_every_build_with_settings_has_room_for_a_filter():
    assert CONSTANTS["XDPCAP_FILTER_NONE"] == 0
    for path in OBJECTS.glob("record_*.bpf.o"):
        if path.name != "record_legacy.bpf.o":
            image = spliced(path.read_bytes(), bytes(80))
            assert image.endswith(bytes(80))
