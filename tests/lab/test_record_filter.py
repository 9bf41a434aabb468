"""`xdpcap record` with a filter: what matches is recorded, the rest goes its way and is counted."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from capture_files import contents
from corpus import capture_path
from kernel_requirements import MULTI_BUFFER
from ledger_checks import check_books

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import TX_IPV4, numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.packets.filter import compile_expression
from xdpcap.programs.program import attached_program
from xdpcap.savefile.reader import read_blocks, read_packets

INTERFACE_DESCRIPTION = 1
UDP = [numbered_frame(60 + number % 900, number) for number in range(500)]
# IPv4 with protocol 6 in the place of 17; the filter looks no further.
TCP = [frame[:23] + b"\x06" + frame[24:] for frame in UDP[::5]]


def mixed() -> list[bytes]:
    return UDP + TCP


@pytest.mark.parametrize(
    "given",
    [["tcp"], ["-f", "tcp"], ["--filter", "tcp"], ["ip", "proto", "\\tcp"], ["-F", "expression"]],
)
def test_only_what_matches_is_recorded_and_the_rest_is_counted(lab, record, tmp_path, given):
    (tmp_path / "expression").write_text("ip # the rest\nand tcp")
    words = [str(tmp_path / word) if word == "expression" else word for word in given]
    recorder = record("--json", *words, lab=lab)
    send_frames(lab, mixed())
    result = recorder.stop()
    total = check_books(result)
    assert (total["filtered"], total["written"]) == (len(UDP), len(TCP))
    assert contents(result.files) == TCP


def test_a_mirror_copies_what_matches_and_leaves_everything_to_the_host(lab, record):
    before = stack_packets(lab)
    recorder = record("--json", "--mirror", "tcp", lab=lab)
    send_frames(lab, mixed())
    result = recorder.stop()
    total = check_books(result)
    assert (total["filtered"], total["mirrored"]) == (len(UDP), len(TCP))
    assert contents(result.files) == TCP
    assert stack_packets(lab) - before == len(UDP) + len(TCP)


def test_what_does_not_match_goes_to_the_stack_untouched_or_nowhere(lab, record):
    for unmatched, expected in (("pass", len(UDP)), ("drop", 0)):
        recorder = record("--json", "--unmatched", unmatched, "tcp", lab=lab)
        before = stack_packets(lab)
        send_frames(lab, mixed())
        result = recorder.stop()
        assert check_books(result)["filtered"] == len(UDP)
        assert stack_packets(lab) - before == expected
        assert f"'tcp', the rest {'is dropped' if expected == 0 else 'stays'}" in result.stderr


def stack_packets(lab) -> int:
    """IPv4 packets that have reached the receiver's stack, whatever it then did with them."""
    text = in_netns(lab.rx_ns, Path("/proc/thread-self/net/snmp").read_text)
    lines = text.splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    return int(dict(zip(names, values, strict=True))["InReceives"])


def test_the_filter_is_in_the_interface_block(lab, record):
    recorder = record("udp  or tcp", lab=lab)
    send_frames(lab, UDP[:3])
    (path,) = recorder.stop().files
    (block,) = (block for block in read_blocks(path) if block.type == INTERFACE_DESCRIPTION)
    # Section 4.2 of the draft: a first octet of 0, and the expression as libpcap takes it.
    assert block.options["if_filter"] == b"\0udp  or tcp"
    shown = subprocess.run(["capinfos", path], check=True, capture_output=True, text=True).stdout
    assert "Filter string = udp  or tcp" in shown


@MULTI_BUFFER
def test_a_filter_in_generic_mode_and_over_several_buffers(make_lab, record):
    lab = make_lab(mtu=9000)
    frames = [numbered_frame(9000, 1), numbered_frame(8000, 2), numbered_frame(100, 3)]
    for mode in ("native", "generic"):
        expression = f"len = 9000 and ether[8999] = {frames[0][-1]}"
        recorder = record("--json", "--attach", mode, expression, lab=lab)
        send_frames(lab, frames)
        result = recorder.stop()
        assert check_books(result)["filtered"] == 2
        assert contents(result.files[-1:]) == frames[:1]
        for path in result.files:
            path.unlink()


CAPTURED = [
    ("tcp[tcp[12]>>2:2] != 0", "arkime/pcap/kafka.pcap"),
    ("arp", "tcpdump/isakmp4500.pcap"),
    ("udp port 53", "tcpdump/isakmp4500.pcap"),
    ("ip6", "tcpdump/icmp6-rfc8335.pcap"),
]


@pytest.mark.parametrize(("expression", "name"), CAPTURED)
def test_of_other_projects_captures_the_packets_that_libpcap_accepts(lab, record, expression, name):
    frames = [p.data for p in read_packets(capture_path(name)) if 60 <= len(p.data) <= 1514]
    compiled = compile_expression(expression)
    recorder = record("--json", expression, lab=lab)
    send_frames(lab, frames)
    result = recorder.stop()
    check_books(result)
    assert contents(result.files) == [frame for frame in frames if compiled.matches(frame)]


def hosts_and_ports(hosts: int, ports: int) -> str:
    """As many terms as the product of the two."""
    terms = itertools.product(range(hosts), range(ports))
    return " or ".join(f"(host 10.0.0.{host} and port {port})" for host, port in terms)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tcp", "prot", "3"], "syntax error"),
        (["inbound"], "not supported"),
        (["-f", "tcp", "udp"], "a filter in the last arguments and in -f"),
        (["-F", "/nonexistent"], "No such file"),
        (["--unmatched", "drop"], "there is no filter"),
        ([hosts_and_ports(40, 12)], "too long for the kernel"),
        # Jumps reach far enough; it is the verifier that has enough.
        pytest.param([hosts_and_ports(40, 9)], "too long for the kernel", marks=MULTI_BUFFER),
    ],
)  # fmt: skip
def test_a_filter_that_can_not_be_is_one_line_and_nothing_is_attached(lab, record, words, said):
    result = record(*words, lab=lab, ready=False).wait()
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert said in line and "; " in line
    assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None
    assert result.files == []


def test_a_filter_that_takes_the_ssh_session_is_refused_and_one_that_spares_it_records(lab, record):
    for command in (
        "addr add 192.0.2.1/24 dev rx0",
        f"route add default via {TX_IPV4}",
    ):
        subprocess.run(["ip", "-n", lab.rx_ns, *command.split()], check=True)
    session = {"SSH_CONNECTION": f"{TX_IPV4} 50022 192.0.2.1 22"}
    result = record("port 22", ready=False, env=session).wait()
    assert (result.returncode, result.files) == (2, [])
    assert result.stderr == (
        f"xdpcap: rx0: the filter takes packets of the SSH session from {TX_IPV4} from this host; "
        f"add `and not (host {TX_IPV4} and tcp port 50022)`, or --force\n"
    )
    refused = record("port 443", "--unmatched", "drop", ready=False, env=session).wait()
    assert refused.returncode == 2
    assert "carries the IPv4 default route" in refused.stderr
    recorder = record("--json", "udp port 53 or portrange 30000-60000 and not tcp", env=session)
    send_frames(lab, UDP)
    total = check_books(recorder.stop())
    assert total["filtered"] + total["written"] == len(UDP)
    assert record("--json", "--force", "port 22", env=session).stop().returncode == 0
