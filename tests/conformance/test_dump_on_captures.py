"""`xdpcap dump` on other projects' captures, beside tcpdump: as many packets, the same bytes."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter

import pytest
from corpus import CAPTURES, is_capture

from xdpcap.errors import UsageError
from xdpcap.inspect.dump import dump_session
from xdpcap.options.dump import DumpOptions

# A file of which libpcap prints nothing either way: tcpdump knows no such linktype.
UNKNOWN_TO_TCPDUMP = {"libpcap/linktype-reserved-field-not-zero.pcap"}


def dumped(name: str, **options) -> tuple[int, list[str], list[str]]:
    """Exit code, lines and messages of the command."""
    text: list[str] = []
    told: list[str] = []
    options = DumpOptions((str(CAPTURES / name),), **{"time_style": "none", **options})
    try:
        code = dump_session(options, text.append, told.append, pytest.fail)
    except UsageError as error:
        return error.exit_code, [], [str(error)]
    return code, "".join(text).splitlines(), told


def tcpdump(name: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
    command = ["tcpdump", "-nn", "-t", "-r", CAPTURES / name, *argv]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def records_of(pcap: bytes) -> int:
    """How many packets tcpdump wrote: record by record, from behind the header."""
    at, count = 24, 0
    while at < len(pcap):
        at += 16 + int.from_bytes(pcap[at + 8 : at + 12], "little")
        count += 1
    return count


def test_every_capture_has_as_many_lines_as_tcpdump_finds_packets(manifest):
    total = 0
    for entry in manifest:
        name = entry["file"]
        code, lines, told = dumped(name)
        theirs = tcpdump(name, "-w", "-")
        assert len(lines) == records_of(theirs.stdout), name
        assert all(line and line.isprintable() for line in lines), name
        if name not in UNKNOWN_TO_TCPDUMP:
            assert bool(code) == bool(theirs.returncode), (name, told)
        assert len(told) == bool(code), name
        total += len(lines)
    assert total > 20_000


@pytest.mark.parametrize(
    "expression", ["tcp", "udp port 53", "ip6", "not ip and not ip6", "greater 200", "vlan or mpls"]
)
def test_a_filter_takes_as_many_packets_as_with_tcpdump(manifest, expression):
    taken = Counter()
    for entry in manifest[::4]:
        name = entry["file"]
        _, lines, told = dumped(name, expression=expression)
        theirs = tcpdump(name, "-w", "-", expression)
        assert len(lines) == records_of(theirs.stdout), (name, told)
        taken[bool(lines)] += 1
    assert taken[True]
    assert taken[False]


def test_every_packet_of_every_capture_has_fields_and_every_style(manifest):
    layers: Counter[str] = Counter()
    for entry in manifest:
        name = entry["file"]
        _, plain, _ = dumped(name)
        _, rows, _ = dumped(name, json=True, hexdump="xx")
        found = [json.loads(row) for row in rows]
        assert len(found) == len(plain), name
        for each in found:
            assert len(each["data"]) == 2 * each["caplen"]
            layers.update(layer["protocol"] for layer in each["layers"])
        for style in ({"link": True, "verbose": True}, {"quiet": True, "nanoseconds": True}):
            assert len(dumped(name, **style)[1]) == len(plain), name
    assert layers.keys() >= {
        *("ethernet", "framing", "vlan", "mpls", "arp", "ip", "extension", "tcp", "udp"),
        *("icmp", "sctp", "gre", "vxlan", "payload", "cut", "invalid", "cooked"),
    }


def snapped(entry) -> bool:
    """Whether packets are longer than a pcap's header admits: tcpdump cuts those, and we don't."""
    with open(CAPTURES / entry["file"], "rb") as file:
        head = file.read(24)
    order = "little" if entry["format"].endswith("le") else "big"
    return entry["max_caplen"] > int.from_bytes(head[16:20], order)


def test_hex_dumps_are_those_of_tcpdump(manifest):
    same = 0
    for entry in manifest:
        name = entry["file"]
        if entry["format"].startswith("pcap-") and snapped(entry):
            continue
        for option in ("xx", "XX"):
            theirs = tcpdump(name, f"-{option}").stdout.decode("latin-1").split("\n")
            expected = [row for row in theirs if row.startswith("\t0x")]
            _, lines, _ = dumped(name, hexdump=option)
            shown = [row for row in lines if row.startswith("\t0x")]
            # tcpdump also dumps what it does not understand within a packet: between ours.
            remaining = iter(expected)
            assert all(row in remaining for row in shown), name
            same += shown == expected
    assert same > 1300


# Where tcpdump 4.99 looks into what is only named here (DCCP, MACsec), names ports behind
# extension headers elsewhere on the line, or takes a packet beyond 65535 bytes for a cut one.
OTHERWISE = re.compile(r"tcpdump/(dccp_|macsec-|bigtcp-ipv6|ipv6-routing-header|ipv6-srh)|.*_ah_")
ENDS = re.compile(r"^(IP6?) (\S+) > (\S+?):(?: |$)")
OURS = re.compile(r"(IP6?) (\S+) > (\S+)")


def with_dots(end: str) -> str:
    """`[::1]:80` and `10.0.0.1:80` as tcpdump writes them."""
    if end.startswith("["):
        address, _, port = end[1:].partition("]:")
        return f"{address}.{port}"
    return end.replace(":", ".") if "." in end and end.count(":") == 1 else end


def test_addresses_and_ports_are_those_that_tcpdump_prints(manifest):
    """On Ethernet: of each packet whose line tcpdump begins with IP."""
    counts: Counter[str] = Counter()
    wrong = []
    for entry in manifest:
        if not is_capture(entry) or entry["linktypes"] != [1] or OTHERWISE.match(entry["file"]):
            continue
        _, ours, _ = dumped(entry["file"])
        shown = tcpdump(entry["file"]).stdout.decode("latin-1").splitlines()
        theirs = [row for row in shown if not row.startswith(("\t", " "))]
        if len(ours) != len(theirs):
            counts["files that can't be compared"] += 1
            continue
        for our, their in zip(ours, theirs, strict=True):
            if not (match := ENDS.match(their)):
                continue
            found = OURS.search(our)
            said = found and (found[1], with_dots(found[2]), with_dots(found[3]))
            counts["compared"] += 1
            if said != match.groups():
                wrong.append((entry["file"], our, their[:100]))
    assert counts["compared"] > 15_000
    assert counts["files that can't be compared"] < 40
    assert not wrong, wrong[:20]
