"""`xdpcap dump`: what it prints of files, directories and pipes, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard
from command_line import one_line, run, xdpcap
from packet_builders import ICMP, SYN, TCP, UDP, arp, ip_packet, pcap

from xdpcap.inspect import dump
from xdpcap.savefile import headers

A, B = "192.0.2.1", "198.51.100.7"
PACKETS = [
    ip_packet(A, B, TCP, (5000, 80), flags=SYN),
    ip_packet(A, B, UDP, (5000, 53)),
    arp(A, B),
    ip_packet(A, B, ICMP),
]
LINES = [
    f"IP {A}:5000 > {B}:80 TCP [S] seq 1, length 0",
    f"IP {A}:5000 > {B}:53 UDP length 0",
    f"ARP who-has {B} tell {A}, length 28",
    f"IP {A} > {B} ICMP echo reply, id 0, seq 0, length 8",
]
FIRST_NS = 1_000_000_000_000


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own with one capture in it, in a zone of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    Path("web.pcap").write_bytes(pcap(*PACKETS))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> list[str]:
    """The lines on standard output; standard error has to be silent where all went well."""
    assert run("dump", *argv) == code
    output = capsys.readouterr()
    assert code or output.err == ""
    return output.out.splitlines()


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """A shell's line, in which "$0" is Python."""
    argv = ["sh", "-c", script, sys.executable]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


# ------------------------------------------------------------------------------- what is read


def test_a_file_is_printed_a_line_a_packet(capsys):
    assert printed(capsys, "-i", "web.pcap", "-t") == LINES


def test_the_first_word_is_the_source_where_i_does_not_name_one(capsys):
    assert printed(capsys, "web.pcap", "-t", "udp", "or", "arp") == LINES[1:3]
    assert printed(capsys, "-t", "-i", "web.pcap", "udp", "or", "arp") == LINES[1:3]
    assert printed(capsys, "-t", "-r", "web.pcap", "not arp and not icmp") == LINES[:2]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_a_compressed_file_is_read_as_what_is_in_it(pack):
    Path("web.packed").write_bytes(pack(pcap(*PACKETS)))
    done = xdpcap("dump", "-i", "web.packed", "-t", capture_output=True)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, LINES, "")


def test_standard_input_is_read(capsys):
    with open("web.pcap", "rb") as file:
        done = xdpcap("dump", "-i", "-", "-t", stdin=file, capture_output=True)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, LINES, "")


def test_a_pipe_is_printed_as_it_fills():
    argv = [sys.executable, "-m", "xdpcap", "dump", "-i", "-", "-t"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(pcap(PACKETS[0]))
        child.stdin.flush()
        assert child.stdout.readline().decode().rstrip() == LINES[0]
        child.stdin.write(pcap(PACKETS[1])[24:])
        child.stdin.flush()
        assert child.stdout.readline().decode().rstrip() == LINES[1]
        child.stdin.close()
        assert child.stdout.read() == b""
    assert child.returncode == 0


def stamped(*packets: tuple[int, int]) -> bytes:
    """A pcap of UDP packets: (milliseconds since the first, source port)."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for at_ms, port in packets:
        data = ip_packet(A, B, UDP, (port, 9))
        stamp = 1000 + at_ms // 1000, at_ms % 1000 * 1000
        records.append(struct.pack("<IIII", *stamp, len(data), len(data)) + data)
    return b"".join(records)


def recorded(queue: int, sequence: int, ext: str = "pcap") -> str:
    return f"eth1-q{queue}-20261121T093000.00000000{sequence}Z-{sequence:06d}.{ext}"


def ports(lines: list[str]) -> list[int]:
    return [int(line.split(f"{A}:")[1].split()[0]) for line in lines]


def test_a_directory_is_printed_in_order_of_time_over_queues_and_files(capsys):
    os.mkdir("captures")
    content = {
        recorded(0, 1): stamped((0, 1), (30, 4)),
        recorded(0, 3): stamped((40, 5), (70, 8)),
        recorded(1, 2): stamped((10, 2), (50, 6)),
        recorded(2, 4): stamped((60, 7)),
        recorded(2, 1): stamped((20, 3)),
    }
    for name, data in content.items():
        Path("captures", name).write_bytes(data)
    Path("captures", recorded(3, 1, "pcapng.part")).write_bytes(b"")
    Path("captures", "notes.txt").write_text("no capture")
    assert ports(printed(capsys, "-i", "captures", "-t")) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ports(printed(capsys, "captures", "-t", "-c", "3")) == [1, 2, 3]
    assert ports(printed(capsys, "captures", "-t", "src port 2 or src port 7")) == [2, 7]
    shown = [json.loads(line) for line in printed(capsys, "captures", "--json")]
    assert [(each["interface"], each["queue"]) for each in shown] == [
        ("eth1", queue) for queue in (0, 1, 2, 0, 0, 1, 2, 0)
    ]


def test_a_directory_of_more_files_than_may_be_open_is_read(capsys):
    os.mkdir("captures")
    for number in range(60):
        Path("captures", f"{number}.pcap").write_bytes(stamped((number, number + 1)))
    script = 'ulimit -n 20; exec "$0" -m xdpcap dump -t captures'
    done = shell(script)
    assert done.stderr == ""
    assert ports(done.stdout.splitlines()) == list(range(1, 61))


def test_a_file_that_is_still_written_may_end_anywhere(capsys):
    os.mkdir("captures")
    Path("captures", recorded(0, 1, "pcap.part")).write_bytes(stamped((0, 1), (1, 2))[:-5])
    assert ports(printed(capsys, "captures", "-t")) == [1]


def test_damage_in_one_file_of_a_directory_is_told_and_the_others_are_read(capsys):
    os.mkdir("captures")
    Path("captures", "a.pcap").write_bytes(stamped((0, 1), (1, 2))[:-5])
    Path("captures", "b.pcap").write_bytes(b"PK\3\4nothing")
    Path("captures", "c.pcap").write_bytes(stamped((2, 3)))
    assert run("dump", "captures", "-t") == 1
    output = capsys.readouterr()
    assert ports(output.out.splitlines()) == [1, 3]
    assert len(output.err.splitlines()) == 2
    assert "captures/a.pcap: damaged at offset" in output.err
    assert "captures/b.pcap: not a capture file" in output.err


def test_the_interface_of_a_recording_is_told_from_its_blocks(capsys):
    block = headers.section_header("", "", "") + headers.interface_block(snaplen=0, name="eth7")
    Path("named.pcapng").write_bytes(block + _enhanced(PACKETS[0]))
    (line,) = printed(capsys, "named.pcapng", "--json")
    assert json.loads(line)["interface"] == "eth7"
    assert printed(capsys, "named.pcapng", "-e", "-t")[0].startswith("eth7 02:00:00:00:00:00 > ")


def _enhanced(data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 4)
    length = 32 + len(padded)
    head = struct.pack("<IIIIIII", 6, length, 0, 0, 0, len(data), len(data))
    return head + padded + struct.pack("<I", length)


# ---------------------------------------------------------------------------- what is printed


def test_times_are_those_of_tcpdump(capsys):
    first = {
        (): "00:16:40.000000 ",
        ("-t",): "",
        ("-tt",): "1000.000000 ",
        ("-ttt",): " 00:00:00.000000 ",
        ("-tttt",): "1970-01-01 00:16:40.000000 ",
        ("-ttttt",): " 00:00:00.000000 ",
        ("--time", "epoch", "--nano"): "1000.000000000 ",
        ("--time", "absolute"): "00:16:40.000000 ",
    }
    for argv, expected in first.items():
        assert printed(capsys, "web.pcap", *argv)[0] == expected + LINES[0]
    assert printed(capsys, "web.pcap", "-ttt")[3].startswith(" 00:00:00.001000 ")
    assert printed(capsys, "web.pcap", "--time", "relative")[3].startswith(" 00:00:00.003000 ")
    assert printed(capsys, "web.pcap", "-tttt")[3].startswith("1970-01-01 00:16:40.003000 ")


def test_bytes_are_printed_below_the_line_with_or_without_the_link_header(capsys):
    head, first, *_ = printed(capsys, "web.pcap", "-t", "-c", "1", "-x")
    assert head == LINES[0]
    assert first == "\t0x0000:  4500 0028 0001 0000 4006 0000 c000 0201"
    _, first, *_ = printed(capsys, "web.pcap", "-t", "-c", "1", "-xx")
    assert first == "\t0x0000:  0200 0000 0001 0200 0000 0000 0800 4500"
    _, first, *_ = printed(capsys, "web.pcap", "-t", "-c", "1", "-X")
    assert first == "\t0x0000:  4500 0028 0001 0000 4006 0000 c000 0201  E..(....@......."
    _, first, *_ = printed(capsys, "web.pcap", "-t", "-c", "1", "-X", "-X")
    assert first == "\t0x0000:  0200 0000 0001 0200 0000 0000 0800 4500  ..............E."


def test_json_has_a_line_a_packet(capsys):
    shown = [json.loads(line) for line in printed(capsys, "web.pcap", "--json", "-xx", "ip")]
    assert [each["number"] for each in shown] == [1, 2, 3]
    layers = shown[1].pop("layers")
    assert [layer["protocol"] for layer in layers] == ["ethernet", "ip", "udp"]
    assert shown[1] == {
        "number": 2,
        "time": "1970-01-01T00:16:40.001000000Z",
        "ts_ns": FIRST_NS + 1_000_000,
        "interface": None,
        "queue": None,
        "linktype": 1,
        "caplen": len(PACKETS[1]),
        "origlen": len(PACKETS[1]),
        "data": PACKETS[1].hex(),
    }


@pytest.mark.parametrize(("argv", "expected"), [((), "4 packets"), (("arp",), "1 packet")])
def test_only_the_number_of_packets_is_printed_when_asked(capsys, argv, expected):
    assert printed(capsys, "web.pcap", "--print-count", *argv) == [expected]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_count_ends_the_output(capsys, count):
    assert printed(capsys, "web.pcap", "-t", "-c", str(count)) == LINES[:count]


# ----------------------------------------------------------------------------------- the end


def test_of_a_damaged_file_what_could_be_read_is_printed_and_the_damage_told(capsys):
    Path("torn.pcap").write_bytes(pcap(*PACKETS)[:-3])
    assert run("dump", "torn.pcap", "-t") == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == LINES[:3]
    assert output.err.startswith("xdpcap: torn.pcap: damaged at offset ")
    assert output.err.count("\n") == 1


def test_damage_behind_the_last_packet_that_is_asked_for_is_not_met(capsys):
    Path("torn.pcap").write_bytes(pcap(*PACKETS)[:-3])
    assert printed(capsys, "torn.pcap", "-t", "-c", "2") == LINES[:2]


def test_who_stops_reading_ends_it_without_a_word(tmp_path):
    Path("large.pcap").write_bytes(pcap(*PACKETS * 5000))
    script = '"$0" -m xdpcap dump large.pcap | head -n 1'
    done = shell(script)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_silent_pipe_with_the_counts(number):
    argv = [sys.executable, "-m", "xdpcap", "dump", "-", "-t", "ip"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(argv, text=False, **pipes) as child:
        child.stdin.write(pcap(*PACKETS))
        child.stdin.flush()
        for expected in (LINES[0], LINES[1], LINES[3]):
            assert child.stdout.readline().decode().rstrip() == expected
        time.sleep(0.2)
        child.send_signal(number)
        output, error = child.communicate(timeout=20)
    assert (child.returncode, output) == (0, b"")
    assert error == b"xdpcap: 3 packets shown, 4 read\n"


def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = xdpcap("dump", "web.pcap", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith("xdpcap: standard output: No space left")
    assert done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "nothing to look at"),
        (["-i", "nowhere"], "no such interface, file or directory"),
        (["-i", ""], "nothing to look at"),
        (["-i", "web.pcap", "-i", "web.pcap"], "web.pcap: not one of several interfaces"),
        *(
            (["web.pcap", *option], f"{option[0]} is for interfaces; leave it out for web.pcap")
            for option in (["-S"], ["-H"], ["-s", "60"], ["-p"], ["--queues", "0"])
        ),
        (["web.pcap", "-S", "-H"], "choose one"),
        (["-i", "eth1", "-H", "--queues", "0"], "runs before a queue is chosen"),
        (["web.pcap", "tpc"], "filter 'tpc': "),
        (["web.pcap", "-x", "-X"], "choose one"),
        (["web.pcap", "-t", "--time", "epoch"], "choose one"),
        (["web.pcap", "-tttttt"], "the last is -ttttt"),
        (["web.pcap", "-c", "0"], "--count"),
        (["web.pcap", "--json", "--print-count"], "choose one"),
        (["web.pcap", "--time", "noon"], "--time"),
        (["empty"], "nothing called *.pcap"),
        (["none.pcap"], "not a capture file"),
    ],
)
def test_what_cannot_be_printed_is_one_line_and_exit_code_2(capsys, argv, says):
    os.mkdir("empty")
    Path("none.pcap").write_bytes(b"PK\3\4" * 9)
    assert run("dump", *argv) == 2
    line = one_line(capsys)
    assert says in line


def test_a_filter_that_is_none_is_refused_for_a_directory_as_well(capsys):
    assert run("dump", ".", "tpc") == 2
    assert "filter 'tpc'" in one_line(capsys)


def test_a_signal_is_there_to_be_polled_for_since_it_may_come_before_the_waiting_begins() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with dump._Stop() as stop:
        poller = select.poll()
        poller.register(stop.fd, select.POLLIN)
        assert poller.poll(0) == [] and not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert poller.poll(5000) == [(stop.fd, select.POLLIN)] and stop.asked
        with pytest.raises(dump._Stopped), stop.waiting():
            pytest.fail("it waits")
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
