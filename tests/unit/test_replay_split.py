"""split: sides of whole files, the cache file, and the files that it belongs to."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from packet_builders import SYN, TCP, UDP, ip_packet, packet_set, pcap

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.split import open_sides, read_cache, split_files, write_cache

A, B = "192.0.2.1", "198.51.100.7"
THERE = ip_packet(A, B, TCP, (80, 50000), flags=SYN)
BACK = ip_packet(B, A, TCP, (50000, 80))


@pytest.fixture
def capture(tmp_path: Path) -> str:
    """A client's packet, two of the server's, one of the client's."""
    path = tmp_path / "web.pcap"
    path.write_bytes(pcap(THERE, BACK, BACK, THERE))
    return str(path)


def test_a_files_sides_are_runs_of_packets(capture: str) -> None:
    found = split_files([capture])
    (file,) = found.files
    data = Path(capture).read_bytes()
    assert (file.name, file.size) == ("web.pcap", len(data))
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.runs == (1, 2, 1)
    assert (file.packets, file.client_packets, file.server_packets) == (4, 2, 2)
    assert found.decided_by["handshake"] == 1
    assert found.damage == ()


def test_prefixes_decide_where_they_are_given(capture: str) -> None:
    found = split_files([capture], [ip_network("192.0.2.0/24")])
    assert found.files[0].runs == (0, 1, 2, 1)
    assert found.decided_by == {}


def test_a_conversation_may_run_on_into_the_next_file(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("1.pcap", "2.pcap", "3.pcap")]
    for path, packets in zip(paths, [(BACK, THERE), (), (BACK,)], strict=True):
        Path(path).write_bytes(pcap(*packets))
    # Alone, the first packet of each file would be the client's by its port.
    assert [file.runs for file in split_files(paths).files] == [(0, 1, 1), (), (0, 1)]
    assert split_files(paths[2:]).files[0].runs == (1,)


def test_raw_ip_has_sides_as_well(tmp_path: Path) -> None:
    path = tmp_path / "raw.pcap"
    path.write_bytes(pcap(THERE[14:], BACK[14:], linktype=101))
    assert split_files([str(path)]).files[0].runs == (1, 1)
    assert split_files([str(path)], [ip_network(A)]).files[0].runs == (0, 1, 1)


def test_packets_too_short_to_be_sent_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "short.pcap"
    path.write_bytes(pcap(bytes(3), THERE, bytes(3), BACK, bytes(3), bytes(3)))
    for servers in ([], [ip_network(B)]):
        assert split_files([str(path)], servers).files[0].runs == (3, 1, 2)


def test_what_stands_before_damage_is_split_and_the_damage_told(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(pcap(THERE, BACK, BACK)[:-5])
    found = split_files([str(cut)])
    assert found.files[0].runs == (1, 1)
    (damage,) = found.damage
    assert "cut.pcap: damaged at offset" in damage


def test_a_capture_larger_than_a_portion_is_split_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    big = BACK + bytes(9000)
    path.write_bytes(pcap(THERE, *[big] * 3000, THERE))
    assert split_files([str(path)]).files[0].runs == (1, 3000, 1)


@pytest.mark.parametrize("kind", ["nothing", "directory", "text", "fifo"])
def test_what_is_no_capture_file_is_one_line_of_usage(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello\n" * 10)
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(UsageError) as caught:
        split_files([str(path)])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# -- the cache ---------------------------------------------------------------------------------


@pytest.fixture
def cache(capture: str, tmp_path: Path) -> str:
    path = str(tmp_path / "web.split")
    write_cache(path, split_files([capture]))
    return path


def test_a_cache_gives_back_the_sides(capture: str, cache: str) -> None:
    sides = read_cache(cache, [capture])
    assert sides.count == 4
    assert sides.of(packet_set(THERE, BACK, BACK, THERE)) == b"\0\1\1\0"


def test_the_cache_is_the_json_of_the_manual(capture: str, cache: str) -> None:
    document = json.loads(Path(cache).read_text())
    assert document == {
        "format": "xdpcap split",
        "version": 1,
        "by": "conversations",
        "servers": [],
        "files": [
            {
                "name": "web.pcap",
                "size": os.path.getsize(capture),
                "sha256": hashlib.sha256(Path(capture).read_bytes()).hexdigest(),
                "packets": 4,
                "runs": [1, 2, 1],
            }
        ],
    }
    manual = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    names = [*document, *document["files"][0]]
    assert [name for name in names if f"`{name}`" not in manual] == []


def test_a_cache_is_replaced_whole_and_readable_as_other_files(
    capture: str, cache: str, tmp_path: Path
) -> None:
    write_cache(cache, split_files([capture], [ip_network("10.0.0.0/8")]))
    document = json.loads(Path(cache).read_text())
    assert (document["by"], document["servers"]) == ("prefixes", ["10.0.0.0/8"])
    assert sorted(os.listdir(tmp_path)) == ["web.pcap", "web.split"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o666 & ~mask


def test_a_cache_that_cannot_be_written_leaves_nothing(capture: str, tmp_path: Path) -> None:
    found = split_files([capture])
    (tmp_path / "directory").mkdir()
    for path in ("nowhere/web.split", "directory"):
        with pytest.raises(XdpcapError, match="choose another place with -o"):
            write_cache(str(tmp_path / path), found)
    assert sorted(os.listdir(tmp_path)) == ["directory", "web.pcap"]


def test_files_are_known_by_content_not_by_name_or_place(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("1.pcap", "2.pcap", "3.pcap")]
    for path, packets in zip(paths, [(THERE, BACK), (BACK, THERE), (THERE,)], strict=True):
        Path(path).write_bytes(pcap(*packets))
    cache = str(tmp_path / "all.split")
    write_cache(cache, split_files(paths))
    moved = str(tmp_path / "moved.pcap")
    os.rename(paths[1], moved)
    # Fewer of them, in another order, one twice.
    sides = read_cache(cache, [moved, paths[0], moved])
    packets = packet_set(*[THERE] * 6)
    assert sides.of(packets) == b"\1\0\0\1\1\0"


def test_a_file_that_has_changed_is_refused(capture: str, cache: str) -> None:
    data = bytearray(Path(capture).read_bytes())
    data[-1] ^= 1
    Path(capture).write_bytes(data)
    with pytest.raises(UsageError, match="made of other files") as caught:
        read_cache(cache, [capture])
    assert f"make it anew with `xdpcap split {capture}" in str(caught.value)


def damaged(document: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**document, **changes})


def with_file(document: dict[str, Any], **changes: Any) -> str:
    return damaged(document, files=[{**document["files"][0], **changes}])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda d: "", "no JSON"),
        (lambda d: "\udcff\udcfe", "no JSON"),
        (lambda d: "[" * 100_000, "no JSON"),
        (lambda d: "[]", "no format"),
        (lambda d: damaged(d, format="tcpprep"), "no format"),
        (lambda d: damaged(d, version=2), "version 2, 1 is known"),
        (lambda d: damaged(d, files=None), "no list of files"),
        (lambda d: damaged(d, files=[1]), "contradicts itself"),
        (lambda d: with_file(d, size="1"), "contradicts itself"),
        (lambda d: with_file(d, sha256=None), "contradicts itself"),
        (lambda d: with_file(d, packets=5), "contradicts itself"),
        (lambda d: with_file(d, runs=[1, 2, 2, -1]), "contradicts itself"),
        (lambda d: with_file(d, runs=[1, 2.0, 1]), "contradicts itself"),
        (lambda d: with_file(d, runs=[True, 2, 1]), "contradicts itself"),
        (lambda d: with_file(d, runs=[1 << 62], packets=1 << 62), "contradicts itself"),
    ],
)
def test_what_is_no_cache_is_refused_with_the_reason(
    capture: str, cache: str, spoil: Any, why: str
) -> None:
    document = json.loads(Path(cache).read_text())
    Path(cache).write_text(spoil(document), errors="surrogateescape")
    with pytest.raises(UsageError, match=why) as caught:
        read_cache(cache, [capture])
    assert "\n" not in str(caught.value)


def test_a_cache_that_is_not_there_may_have_been_meant_as_a_prefix(capture: str) -> None:
    with pytest.raises(UsageError, match="neither prefixes such as"):
        read_cache("10.0.0.0/33", [capture])


def test_a_replay_takes_its_sides_from_prefixes_or_a_cache(capture: str, cache: str) -> None:
    options = ReplayOptions(files=(capture,), interface="v0")
    assert open_sides(options) is None
    packets = packet_set(THERE, BACK, ip_packet(B, A, UDP, (1, 2)), THERE)
    client_first, server_first = b"\0\1\1\0", b"\1\0\0\1"
    cases = (("198.51.100.0/24", client_first), (cache, client_first), (A, server_first))
    for split, expected in cases:
        sides = open_sides(replace(options, split=split, second_interface="v1"))
        assert sides is not None and sides(packets) == expected
