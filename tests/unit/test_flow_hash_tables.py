"""The reference for the program's flow hash, and the tables that it is worked out with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toeplitz import flow_input, symmetric_hash, toeplitz

TABLES = Path(__file__).parents[2] / "bpf" / "flow_hash_tables.h"

# Of Microsoft's "Verifying the RSS Hash Calculation": both ends, hash with and without ports.
VERIFIED = [
    (("66.9.149.187", 2794), ("161.142.100.80", 1766), 0x51CCC178, 0x323E8FC2),
    (("199.92.111.2", 14230), ("65.69.140.83", 4739), 0xC626B0EA, 0xD718262A),
    (
        ("3ffe:2501:200:1fff::7", 2794),
        ("3ffe:2501:200:3::1", 1766),
        0x40207D3D,
        0x2CC18CD5,
    ),
]
# Where a folded field stands in the input: its two places in bits, and its half bytes.
PLACES = {
    "flow_hash_v4_addresses": (0, 32, 8),
    "flow_hash_v4_ports": (64, 80, 4),
    "flow_hash_v6_addresses": (0, 128, 32),
    "flow_hash_v6_ports": (256, 272, 4),
}


@pytest.mark.parametrize(("source", "target", "with_ports", "without"), VERIFIED)
def test_the_reference_is_the_published_function(source, target, with_ports, without):
    ends, ports = (source[0], target[0]), (source[1], target[1])
    assert toeplitz(flow_input(*ends, ports)) == with_ports
    assert toeplitz(flow_input(*ends)) == without


def test_the_folded_hash_is_the_same_for_both_directions_and_the_published_one_is_not():
    there, back = ("10.0.0.1", "10.0.0.2", (1000, 80)), ("10.0.0.2", "10.0.0.1", (80, 1000))
    assert symmetric_hash(*there) == symmetric_hash(*back)
    assert toeplitz(flow_input(*there)) != toeplitz(flow_input(*back))


def table(name: str) -> list[list[int]]:
    found = re.search(rf"{name}\[(\d+)\]\[16\] = \{{(.*?)\}};", TABLES.read_text(), re.S)
    assert found is not None
    values = [int(value, 16) for value in re.findall(r"0x[0-9a-f]{8}", found[2])]
    assert len(values) == 16 * int(found[1])
    return [values[at : at + 16] for at in range(0, len(values), 16)]


@pytest.mark.parametrize("name", PLACES)
def test_every_entry_is_what_its_half_byte_adds_in_both_places(name):
    first, second, nibbles = PLACES[name]
    rows = table(name)
    assert len(rows) == nibbles
    for nibble, row in enumerate(rows):
        for value, entry in enumerate(row):
            data = 0
            for place in (first, second):
                data |= value << (288 - place - 4 * nibble - 4)
            assert entry == toeplitz(data.to_bytes(36, "big")), (nibble, value)


def test_the_header_names_the_key_that_the_tables_are_made_from():
    assert "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa" in (
        TABLES.read_text()
    )
