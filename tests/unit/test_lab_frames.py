"""The lab's frames are what they say: valid, of exact length, told apart by their number."""

from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.bench.lab.frames import blasted_frame, frame_number, mixed_frames, numbered_frame
from xdpcap.packets import build

NUMBERS = st.integers(0, 2**64 - 1)


def udp_checksum_holds(frame: bytes) -> bool:
    """Over the pseudo header and the datagram, its own checksum included, the sum is 0."""
    datagram = frame[34:]
    pseudo = frame[26:34] + struct.pack("!HH", build.PROTOCOL_UDP, len(datagram))
    return build.checksum(pseudo + datagram) == 0


@given(st.integers(50, 9014), NUMBERS)
def test_a_numbered_frame_has_its_length_its_number_and_right_checksums(size, number):
    frame = numbered_frame(size, number)
    assert len(frame) == size
    assert frame_number(frame) == number
    assert int.from_bytes(frame[42:50], "big") == number
    assert build.checksum(frame[14:34]) == 0
    assert udp_checksum_holds(frame)
    assert frame[40:42] != b"\0\0"  # which would say that there is none


def test_the_longest_numbered_frame_fills_an_ip_packet():
    assert len(numbered_frame(14 + 65535, 1)) == 65549


@pytest.mark.parametrize("size", [0, 49, 65550])
def test_a_size_that_can_not_hold_a_number_is_refused(size):
    with pytest.raises(ValueError, match=f"50 to 65549 bytes, not {size}"):
        numbered_frame(size, 0)


@given(st.integers(51, 200), st.integers(0, 254))
def test_frames_of_neighbouring_numbers_differ_in_their_filler_too(size, number):
    assert numbered_frame(size, number)[50:] != numbered_frame(size, number + 1)[50:]


@given(st.integers(50, 1514), NUMBERS)
def test_frames_of_a_blast_differ_in_their_number_only_and_claim_no_checksum(size, number):
    frame, first = blasted_frame(size, number), blasted_frame(size, 0)
    assert len(frame) == size
    assert frame_number(frame) == number
    assert (frame[:42], frame[50:]) == (first[:42], first[50:])
    assert frame[40:42] == b"\0\0"


def test_mixed_frames_repeat_for_a_seed_and_fit_the_mtu():
    drawn = list(mixed_frames(500, mtu=1000, seed=7))
    assert drawn == list(mixed_frames(500, mtu=1000, seed=7))
    assert drawn != list(mixed_frames(500, mtu=1000, seed=8))
    assert max(map(len, drawn)) <= 1000 + 18
    assert min(map(len, drawn)) == 60


def test_wireshark_finds_every_checksum_of_mixed_frames_right(tmp_path):
    path = tmp_path / "mixed.pcap"
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for frame in mixed_frames(1000):
        records.append(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(records))
    check = [f"-o{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")]

    def count(condition: str) -> int:
        command = ["tshark", "-nr", str(path), *check, "-Y", condition]
        done = subprocess.run(command, capture_output=True, check=True)
        return len(done.stdout.splitlines())

    layers = ("ip", "tcp", "udp")
    assert count(" or ".join(f"{name}.checksum.status == Bad" for name in layers)) == 0
    assert (
        count("arp") + count("tcp.checksum.status == Good") + count("udp.checksum.status == Good")
        == len(records) - 1
    )
    for kind in ("arp", "vlan", "ip and tcp", "ip and udp", "ipv6 and tcp", "ipv6 and udp"):
        assert count(kind) > 0, kind
