"""`xdpcap split`: what it says, writes and refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from command_line import one_line, run, xdpcap
from packet_builders import ICMP, SYN, TCP, UDP, ip_packet, pcap

A, B = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own, with one capture in it."""
    monkeypatch.chdir(tmp_path)
    path = Path("web.pcap")
    path.write_bytes(
        pcap(
            ip_packet(A, B, TCP, (5000, 80), flags=SYN),
            ip_packet(B, A, TCP, (80, 5000)),
            ip_packet(A, B, UDP, (5000, 53)),
            ip_packet(A, B, ICMP),
        )
    )
    return path


def test_the_cache_is_written_and_what_was_found_is_told(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("split", "web.pcap", "-o", "web.split") == 0
    assert json.loads(Path("web.split").read_text())["files"][0]["runs"] == [1, 1, 2]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "web.pcap: 4 packets, 3 of clients, 1 of servers",
        "3 conversations told apart: 1 by the handshake, 1 by the lower port, "
        "1 as others of the two hosts",
    ]


def test_prefixes_may_be_given_together_or_one_by_one(capture: Path) -> None:
    assert run("split", "web.pcap", "-o", "1", "--prefix", f"{A},::/0") == 0
    assert run("split", "web.pcap", "-o", "2", "--prefix", A, "--prefix", "::/0", "-q") == 0
    written = Path("1").read_text()
    assert written == Path("2").read_text()
    assert json.loads(written)["servers"] == [f"{A}/32", "::/0"]
    assert json.loads(written)["files"][0]["runs"] == [0, 1, 1, 2]


def test_the_cache_goes_to_standard_output_when_asked(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("split", "web.pcap", "-o", "-", "--quiet") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["files"][0]["packets"] == 4
    assert output.err == ""


def test_a_damaged_file_is_split_as_far_as_it_goes_with_exit_code_1(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-3])
    assert run("split", "web.pcap", "-o", "web.split", "-q") == 1
    assert "damaged at offset" in one_line(capsys)
    assert json.loads(Path("web.split").read_text())["files"][0]["packets"] == 3


def test_a_compressed_file_is_split_and_known_by_what_lies_there(capture: Path) -> None:
    # In a process of its own, which can be ended if it waits for itself.
    Path("web.pcap.gz").write_bytes(gzip.compress(capture.read_bytes()))
    done = xdpcap("split", "web.pcap.gz", "-o", "web.split", capture_output=True)
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(Path("web.split").read_text())["files"]
    assert file["runs"] == [1, 1, 2]
    assert file["size"] == Path("web.pcap.gz").stat().st_size


def test_a_compressed_file_that_breaks_off_is_split_as_far_as_it_goes(capture: Path) -> None:
    packets = [ip_packet(A, B, TCP, (5000, 80))] * 1000
    # Stored and not compressed, so that half of the file is half of the packets.
    whole = gzip.compress(pcap(*packets), 0)
    Path("torn.pcap.gz").write_bytes(whole[: len(whole) // 2])
    done = xdpcap("split", "torn.pcap.gz", "-o", "torn.split", "-q", capture_output=True)
    assert done.returncode == 1
    assert "the gzip stream breaks off" in done.stderr
    assert done.stderr.count("\n") == 1
    (file,) = json.loads(Path("torn.split").read_text())["files"]
    assert 400 < file["packets"] < 600


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "no file"),
        (["-o", "x"], "no file"),
        (["web.pcap"], "no output"),
        (["-", "-o", "x"], "a cache belongs to a file"),
        (["web.pcap", "-o", "web.pcap"], "the capture itself"),
        (["web.pcap", "-o", "./web.pcap"], "the capture itself"),
        (["web.pcap", "-o", "x", "--prefix", "10.0.0.1/8"], "--prefix: '10.0.0.1/8' has bits"),
        (["nothing.pcap", "-o", "x"], "nothing.pcap: No such file"),
        ([".", "-o", "x"], "name a capture file"),
    ],
)
def test_what_cannot_be_split_is_one_line_and_exit_code_2(
    capture: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    before = capture.read_bytes()
    assert run("split", *argv) == 2
    line = one_line(capsys)
    assert says in line
    assert "; " in line, f"no way out: {line}"
    assert [path.name for path in Path(".").iterdir()] == ["web.pcap"]
    assert capture.read_bytes() == before
