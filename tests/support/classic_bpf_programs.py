"""Classic BPF programs: one or more for every instruction, and packets that tell them apart."""

from __future__ import annotations

import random

from hypothesis import strategies as st

Insn = tuple[int, int, int, int]

RETURN_A: Insn = (0x16, 0, 0, 0)
REJECT, ACCEPT = (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000)
NUMBERS = (0, 1, 2, 4, 13, 31, 32, 33, 60, 61, 63, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
NUMBERS = (*NUMBERS, 0xFFFFFFF0, 0xFFFFFFFF)
OPERATIONS = (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0)
DIVISIONS, SHIFTS = (0x30, 0x90), (0x60, 0x70)
CONDITIONS = (0x10, 0x20, 0x30, 0x40)

_random = random.Random(7)
PACKETS = [bytes(14), *(_random.randbytes(size) for size in (14, 15, 16, 17, 60, 61, 64, 1514))]


def a(value: int) -> Insn:
    """A = value."""
    return (0x00, 0, 0, value)


def x(value: int) -> Insn:
    """X = value."""
    return (0x01, 0, 0, value)


def programs() -> dict[str, list[Insn]]:
    """Programs by what they are about; each returns something that tells what it did."""
    found: dict[str, list[Insn]] = {
        "ret k": [ACCEPT],
        "ret 0": [REJECT],
        "neg": [a(5), (0x84, 0, 0, 0)],
    }
    found["ld len"], found["ldx len, txa"] = [(0x80, 0, 0, 0)], [(0x81, 0, 0, 0), (0x87, 0, 0, 0)]
    found["tax, txa"] = [a(9), (0x07, 0, 0, 0), a(0), (0x87, 0, 0, 0)]
    for word in range(16):
        found[f"st M[{word}], ld M[{word}]"] = [a(7), (0x02, 0, 0, word), a(0), (0x60, 0, 0, word)]
        stored = [x(7), (0x03, 0, 0, word), x(0), (0x61, 0, 0, word), (0x87, 0, 0, 0)]
        found[f"stx M[{word}], ldx M[{word}]"] = stored
    for k in (*NUMBERS, 12, 14, 57, 58, 59, 1510, 1513, 32766, 32767, 32768, 65534, 65535):
        for name, absolute, indirect in (("w", 0x20, 0x40), ("h", 0x28, 0x48), ("b", 0x30, 0x50)):
            found[f"ld {name} [{k}]"] = [(absolute, 0, 0, k)]
            for there in (0, 3, 57, 0xFFFF, 0xFFFFFFFF):
                found[f"ld {name} [{there} + {k}]"] = [x(there), (indirect, 0, 0, k)]
        found[f"ldx msh [{k}]"] = [(0xB1, 0, 0, k), (0x87, 0, 0, 0)]
        found[f"ld #{k}"] = [a(k)]
        found[f"ldx #{k}"] = [x(k), (0x87, 0, 0, 0)]
        for operation in OPERATIONS:
            for start in (0, 1, 0x80000001):
                if not (k == 0 and operation in DIVISIONS) and not (k > 31 and operation in SHIFTS):
                    found[f"alu {operation:02x} {start} #{k}"] = [
                        a(start),
                        (4 | operation, 0, 0, k),
                    ]
                found[f"alu {operation:02x} {start} x={k}"] = [
                    *(a(start), x(k), (12 | operation, 0, 0, 0)),
                ]
        for condition in CONDITIONS:
            for start in (k, k ^ 1, 0x80000001):
                found[f"jmp {condition:02x} {start} #{k}"] = branches(
                    start, (5 | condition, 0, 1, k)
                )
                found[f"jmp {condition:02x} {start} x={k}"] = [
                    x(k),
                    *branches(start, (13 | condition, 1, 0, 0)),
                ]
                found[f"jmp {condition:02x} {start} #{k}, both"] = branches(
                    start, (5 | condition, 1, 2, k)
                )
    found["ja"] = [a(3), (0x05, 0, 0, 1), REJECT]
    found["ja 0, equal branches"] = [a(3), (0x05, 0, 0, 0), (0x15, 0, 0, 3)]
    found["ja back"] = [
        *(
            (0x30, 0, 0, 0),
            (0x14, 0, 0, 1),
            (0x54, 0, 0, 31),
            (0x15, 1, 0, 0),
            (0x05, 0, 0, -4 & 0xFFFFFFFF),
        ),
        a(11),
    ]
    return {name: [*program, RETURN_A] for name, program in found.items()}


def branches(start: int, jump: Insn) -> list[Insn]:
    """A program that tells by what it returns where the jump went."""
    return [a(start), jump, (0x06, 0, 0, 1), (0x06, 0, 0, 2), a(3)]


PROGRAMS = programs()


def packets_for(name: str) -> list[bytes]:
    """The packets that matter to a program: all to what loads from them, else one."""
    return PACKETS if name.startswith("ld") else PACKETS[5:6]


# ------------------------------------------------------------------------------ expressions

# Not geneve: beside other terms libpcap 1.10 reads scratch memory that it has not written
# (1.11 sets it to 0 before), so that its verdict is nobody's to foretell.
_primitives = st.sampled_from(
    [
        *("ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "vlan", "mpls", "multicast"),
        *("stp", "pppoed", "ether broadcast", "host 10.0.0.1", "src host 10.0.0.2"),
        *("net 10.0.0.0/8", "dst net 2001:db8::/32", "port 53", "src port 7"),
        *("portrange 20-100", "tcp dst port 443", "ip proto 17", "ip6 proto 58"),
        *("ether proto 0x88cc", "less 64", "greater 100", "ether host 02:00:00:00:00:01"),
        *("ip6 protochain 6", "ip protochain 17", "vlan 5"),
    ]
)
_offsets = st.integers(0, 70) | st.sampled_from([1513, 65535, 0x7FFFFFFF])
_layers = st.sampled_from(["ether", "ip", "ip6", "tcp", "udp", "icmp"])
_words = st.builds(
    lambda layer, offset, size: f"{layer}[{offset}:{size}]",
    _layers,
    _offsets,
    st.sampled_from([1, 2, 4]),
)
_arithmetic = st.recursive(
    _words | st.just("len") | st.sampled_from(NUMBERS).map(str),
    lambda inner: (
        st.builds(
            lambda left, operator, right: f"({left} {operator} {right})",
            inner,
            st.sampled_from(["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]),
            inner,
        )
        | st.builds(lambda layer, at: f"{layer}[{at}]", _layers, inner)
    ),
    max_leaves=5,
)
_relations = st.builds(
    lambda left, operator, right: f"{left} {operator} {right}",
    _arithmetic,
    st.sampled_from(["=", "!=", "<", ">", "<=", ">="]),
    _arithmetic,
)
EXPRESSIONS = st.recursive(
    _primitives | _relations,
    lambda inner: (
        st.builds(
            lambda left, operator, right: f"({left}) {operator} ({right})",
            inner,
            st.sampled_from(["and", "or"]),
            inner,
        )
        | inner.map(lambda one: f"not ({one})")
    ),
    max_leaves=4,
)
