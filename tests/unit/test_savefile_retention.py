"""What is deleted to make room, and above all what is not."""

import os

import pytest

from xdpcap.savefile import headers
from xdpcap.savefile.directory import Directory
from xdpcap.savefile.names import NameTemplate

START_NS = 1795253400_123456789
NAMES = NameTemplate()
PATTERN = NAMES.pattern(["eth0"])
OURS = headers.section_header("cpu", "Linux", headers.APPLICATION)
THEIRS = headers.section_header("cpu", "Linux", "Dumpcap (Wireshark) 4.0.17")


def name(sequence: int, interface="eth0", queue=0) -> str:
    return NAMES.render(interface, queue, START_NS, sequence)


def entries(path) -> list[str]:
    return sorted(os.listdir(path))


@pytest.fixture
def reports():
    return []


@pytest.fixture
def open_directory(tmp_path, reports):
    def open_directory(pattern=PATTERN, **limits) -> Directory:
        return Directory(str(tmp_path), report=reports.append, pattern=pattern, **limits)

    return open_directory


def record(directory, size_bytes=100, file_name=None):
    """Record one more file; its number follows those before it, as in a recording."""
    sequence = len(directory.files) + directory.deleted_count + 1
    part = directory.open_part(name if file_name is None else lambda _: file_name, sequence)
    os.write(part.fd, bytes(size_bytes))
    return directory.complete(part, 1)


def older(tmp_path, file_name, content=OURS, age_s=1000):
    path = tmp_path / file_name
    path.write_bytes(content)
    os.utime(path, (START_NS // 10**9 - age_s,) * 2)
    return path


def test_without_a_limit_every_file_stays(open_directory, tmp_path):
    directory = open_directory()
    for _ in range(20):
        record(directory)
    assert len(entries(tmp_path)) == len(directory.files) == 20
    assert directory.deleted_count == 0


def test_the_newest_files_are_kept(open_directory, tmp_path):
    directory = open_directory(keep_files=3)
    for _ in range(8):
        record(directory)
    assert entries(tmp_path) == [name(6), name(7), name(8)]
    assert [file.path for file in directory.files] == [
        str(tmp_path / file_name) for file_name in entries(tmp_path)
    ]
    assert directory.deleted_count == 5


def test_the_limit_is_for_the_directory_and_not_for_each_queue(open_directory, tmp_path):
    directory = open_directory(keep_files=2)
    for queue in range(4):
        record(directory, file_name=name(1, queue=queue))
    assert entries(tmp_path) == [name(1, queue=2), name(1, queue=3)]


def test_a_total_size_is_kept_to(open_directory, tmp_path):
    directory = open_directory(keep_size_bytes=1000)
    for size_bytes in (400, 400, 200, 1, 998):
        record(directory, size_bytes)
    assert entries(tmp_path) == [name(4), name(5)]


def test_the_newest_file_stays_even_if_it_is_too_large_alone(open_directory, tmp_path):
    directory = open_directory(keep_size_bytes=1000)
    record(directory, 10)
    record(directory, 5000)
    assert entries(tmp_path) == [name(2)]
    record(directory, 10)
    assert entries(tmp_path) == [name(3)]


def test_both_limits_hold_together(open_directory, tmp_path):
    directory = open_directory(keep_files=3, keep_size_bytes=1000)
    for size_bytes in (10, 10, 10, 10):
        record(directory, size_bytes)
    assert entries(tmp_path) == [name(2), name(3), name(4)]
    record(directory, 985)
    assert entries(tmp_path) == [name(4), name(5)]


def test_files_being_written_are_neither_counted_nor_deleted(open_directory, tmp_path):
    directory = open_directory(keep_files=1)
    writing = directory.open_part(name)
    for _ in range(3):
        record(directory)
    assert entries(tmp_path) == [name(1) + ".part", name(4)]
    directory.complete(writing, 1)
    assert entries(tmp_path) == [name(1)]


def test_a_restarted_recorder_goes_on_deleting_the_oldest_of_its_own(open_directory, tmp_path):
    older(tmp_path, name(1, queue=5), age_s=10)
    older(tmp_path, name(2), age_s=30)
    older(tmp_path, name(3), age_s=20)
    directory = open_directory(keep_files=3)
    assert len(entries(tmp_path)) == 3
    record(directory, file_name=name(101))
    assert entries(tmp_path) == sorted([name(3), name(1, queue=5), name(101)])
    record(directory, file_name=name(102))
    assert entries(tmp_path) == sorted([name(1, queue=5), name(101), name(102)])
    assert len(directory.files) == 2


def test_files_of_one_age_go_in_the_order_of_their_names(open_directory, tmp_path):
    for sequence in (3, 1, 2):
        older(tmp_path, name(sequence))
    record(open_directory(keep_files=3), file_name=name(9))
    assert entries(tmp_path) == [name(2), name(3), name(9)]


def test_other_people_s_files_are_never_deleted(open_directory, tmp_path):
    kept = [
        older(tmp_path, "holiday.jpg", b"\xff\xd8"),
        older(tmp_path, name(1, interface="eth1")),
        older(tmp_path, name(2) + ".part"),
        older(tmp_path, name(3) + ".gz"),
        older(tmp_path, name(4), THEIRS),
        older(tmp_path, name(5), b""),
        older(tmp_path, name(6), b"text"),
        older(tmp_path, name(7), OURS[:20]),
    ]
    target = older(tmp_path, "target", OURS)
    link = tmp_path / name(8)
    link.symlink_to(target)
    folder = tmp_path / name(9)
    folder.mkdir()
    fifo = tmp_path / name(10)
    os.mkfifo(fifo)
    kept += [target, link, folder, fifo]
    ours = older(tmp_path, name(11))
    directory = open_directory(keep_files=1)
    for sequence in (101, 102, 103):
        record(directory, file_name=name(sequence))
    assert not ours.exists()
    assert all(os.path.lexists(path) for path in kept)
    assert len(entries(tmp_path)) == len(kept) + 1


def test_in_a_template_without_a_start_only_our_pcapng_files_are_deleted(open_directory, tmp_path):
    names = NameTemplate("{interface}-{sequence}.{ext}")
    theirs = older(tmp_path, "eth0-1.pcapng", THEIRS)
    ours = older(tmp_path, "eth0-2.pcapng", OURS)
    directory = open_directory(names.pattern(["eth0"]), keep_files=1)
    part = directory.open_part(lambda sequence: names.render("eth0", 0, 0, sequence))
    directory.complete(part, 1)
    assert (theirs.exists(), ours.exists()) == (True, False)
    assert entries(tmp_path) == ["eth0-1.pcapng", "eth0-3.pcapng"]


def test_pcap_files_of_our_kind_and_naming_are_taken_over(open_directory, tmp_path):
    names = NameTemplate(ext="pcap")
    ours = older(tmp_path, names.render("eth0", 0, START_NS, 1), headers.pcap_header(0))
    tcpdump = older(tmp_path, names.render("eth0", 0, START_NS, 2), bytes.fromhex("d4c3b2a1"))
    directory = open_directory(names.pattern(["eth0"]), keep_files=1)
    record(directory)
    assert (ours.exists(), tcpdump.exists()) == (False, True)


def test_files_that_others_took_away_make_room_too(open_directory, tmp_path):
    """A post-rotate command that compresses leaves nothing of the old name behind."""
    directory = open_directory(keep_files=3)
    for _ in range(3):
        record(directory)
    os.rename(tmp_path / name(2), tmp_path / "archived")
    os.unlink(tmp_path / name(3))
    record(directory, file_name=name(11))
    record(directory, file_name=name(12))
    assert entries(tmp_path) == sorted(["archived", name(1), name(11), name(12)])


def test_a_file_that_can_not_be_deleted_is_reported_once(
    open_directory, tmp_path, reports, monkeypatch
):
    directory = open_directory(keep_files=1)
    record(directory)
    real = os.unlink

    def sticky(path, *args, **options):
        if os.fspath(path).endswith(name(1)):
            raise PermissionError(1, "Operation not permitted")
        real(path, *args, **options)

    monkeypatch.setattr(os, "unlink", sticky)
    for _ in range(3):
        record(directory)
    assert entries(tmp_path) == [name(1), name(4)]
    assert reports == [
        f"{tmp_path / name(1)}: can't be deleted to make room: Operation not permitted"
    ]
    assert directory.deleted_count == 2
