"""The directory: its check, the life of a file in it, and what stays untouched."""

import errno
import os
import resource
import stat
import tempfile
import threading

import pytest

from xdpcap.errors import KernelError, UsageError
from xdpcap.savefile import rename_noreplace
from xdpcap.savefile.directory import Directory, FileRecord, check_directory
from xdpcap.savefile.names import NameTemplate

START_NS = 1795253400_123456789
NAMES = NameTemplate()
PATTERN = NAMES.pattern(["eth0"])


def name(sequence: int) -> str:
    return NAMES.render("eth0", 0, START_NS, sequence)


@pytest.fixture
def reports():
    return []


@pytest.fixture
def directory(tmp_path, reports):
    return Directory(str(tmp_path), report=reports.append, pattern=PATTERN)


def entries(path) -> list[str]:
    return sorted(os.listdir(path))


def refusal(call, kind=UsageError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message
    return message


def test_a_missing_directory_is_refused_with_the_command_that_makes_it(tmp_path):
    path = f"{tmp_path}/not there"
    message = refusal(lambda: check_directory(path))
    assert message == f"{path}: no such directory; mkdir -p '{path}'"


def test_a_file_is_no_directory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert "not a directory" in refusal(lambda: check_directory(str(path)))
    assert "Not a directory" in refusal(lambda: check_directory(f"{path}/below"))


def test_a_directory_that_this_user_can_not_write_is_refused():
    # Not below tmp_path, which root's pytest closes to others.
    path = tempfile.mkdtemp(dir="/tmp")
    os.chmod(path, 0o555)
    # Root may write everywhere, so be nobody during the check.
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        message = refusal(lambda: check_directory(path))
    finally:
        if was_root:
            os.seteuid(0)
    assert f"{path}: not writable for user id " in message
    assert entries(path) == []
    os.rmdir(path)


@pytest.mark.parametrize(
    ("number", "kind", "cause"),
    [
        (errno.EROFS, UsageError, "read-only file system; remount"),
        (errno.EACCES, UsageError, "not writable for user id"),
        (errno.ENOSPC, KernelError, "the disk is full; free some space"),
        (errno.EDQUOT, KernelError, "quota is used up"),
        (errno.EIO, UsageError, "no file can be created there"),
    ],
)
def test_a_write_that_fails_in_the_check_is_told_by_its_cause(
    tmp_path, monkeypatch, number, kind, cause
):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    assert cause in refusal(lambda: check_directory(str(tmp_path)), kind)
    assert entries(tmp_path) == []


def test_a_file_size_limit_is_found_by_the_check(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        message = refusal(lambda: check_directory(str(tmp_path)), KernelError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "EFBIG" in message
    assert "ulimit -f" in message


@pytest.mark.parametrize("unnamed", [True, False])
def test_the_check_leaves_nothing_behind(tmp_path, monkeypatch, unnamed):
    if not unnamed:
        real = os.open

        def without_tmpfile(path, flags, *args, **options):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *args, **options)

        monkeypatch.setattr(os, "open", without_tmpfile)
    before = len(os.listdir("/proc/self/fd"))
    check_directory(str(tmp_path))
    assert entries(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_ends_in_part_until_it_is_complete(directory, tmp_path):
    part = directory.open_part(name)
    os.write(part.fd, b"bytes")
    assert entries(tmp_path) == [name(1) + ".part"]
    assert directory.files == []
    record = directory.complete(part, packets=3)
    assert entries(tmp_path) == [name(1)]
    assert record == FileRecord(str(tmp_path / name(1)), 3, 5)
    assert directory.files == [record]
    assert (tmp_path / name(1)).read_bytes() == b"bytes"
    assert part.fd == -1


def test_a_part_is_opened_for_writing_alone_and_not_inherited(directory):
    part = directory.open_part(name)
    assert not os.get_inheritable(part.fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(part.fd, 1)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(os.fstat(part.fd).st_mode) == 0o644 & ~umask
    directory.discard(part)


def test_a_descriptor_that_its_user_closed_is_not_closed_again(directory):
    part = directory.open_part(name)
    os.write(part.fd, b"x")
    part.close()
    with open(os.devnull, "rb") as other:  # takes the number that was just freed
        directory.complete(part, packets=1)
        os.fstat(other.fileno())


def test_paths_are_absolute_whatever_was_given(tmp_path, monkeypatch, reports):
    monkeypatch.chdir(tmp_path)
    directory = Directory(".", report=reports.append)
    part = directory.open_part(name)
    monkeypatch.chdir("/")
    assert directory.complete(part, 0).path == str(tmp_path / name(1))


def test_a_discarded_part_is_gone(directory, tmp_path):
    part = directory.open_part(name)
    directory.discard(part)
    assert entries(tmp_path) == []
    assert directory.files == []
    assert part.fd == -1


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_a_name_that_is_taken_is_left_alone_and_the_next_one_used(directory, tmp_path, suffix):
    for sequence in (1, 2):
        (tmp_path / (name(sequence) + suffix)).write_bytes(b"older")
    part = directory.open_part(name)
    assert part.sequence == 3
    assert part.path_final == str(tmp_path / name(3))
    directory.complete(part, 0)
    assert (tmp_path / (name(1) + suffix)).read_bytes() == b"older"


@pytest.mark.parametrize("taken", ["a.pcapng", "a.pcapng.part"])
def test_a_taken_name_without_a_sequence_is_a_usage_error(directory, tmp_path, taken):
    (tmp_path / taken).write_bytes(b"older")
    message = refusal(lambda: directory.open_part(lambda sequence: "a.pcapng"))
    assert message.startswith(f"{tmp_path / taken}: exists already and is not overwritten")
    assert entries(tmp_path) == [taken]


def test_a_dangling_link_is_not_followed(directory, tmp_path):
    (tmp_path / name(1)).symlink_to(tmp_path / "elsewhere")
    (tmp_path / (name(2) + ".part")).symlink_to(tmp_path / "elsewhere")
    part = directory.open_part(name)
    assert part.sequence == 3
    assert not (tmp_path / "elsewhere").exists()


WAYS = ["renameat2", "link", "check"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way to rename in turn, by having those before it fail as if unsupported."""

    def unsupported(number):
        def fail(*args, **options):
            raise OSError(number, os.strerror(number))

        return fail

    if request.param in ("link", "check"):
        monkeypatch.setattr(rename_noreplace, "_renameat2", unsupported(errno.EINVAL))
    if request.param == "check":
        monkeypatch.setattr(os, "link", unsupported(errno.EPERM))
    return request.param


def test_completing_never_overwrites_a_file_that_came_meanwhile(directory, tmp_path, reports, way):
    part = directory.open_part(name)
    os.write(part.fd, b"mine")
    final = tmp_path / name(1)
    final.write_bytes(b"theirs")
    (tmp_path / name(1).replace(".pcapng", ".1.pcapng")).write_bytes(b"theirs too")
    record = directory.complete(part, 1)
    assert record.path.endswith("-000001.2.pcapng")
    assert final.read_bytes() == b"theirs"
    assert open(record.path, "rb").read() == b"mine"  # noqa: SIM115
    assert len(entries(tmp_path)) == 3
    assert reports == [f"{final}: taken by another file; recorded as {record.path}"]


def test_a_file_is_renamed_where_the_better_ways_are_missing(directory, tmp_path, way):
    part = directory.open_part(name)
    os.write(part.fd, b"mine")
    directory.complete(part, 1)
    assert entries(tmp_path) == [name(1)]
    assert (tmp_path / name(1)).stat().st_nlink == 1


def test_a_part_that_vanished_is_an_error_and_no_record(directory, tmp_path):
    part = directory.open_part(name)
    os.unlink(part.path_part)
    message = refusal(lambda: directory.complete(part, 1), KernelError)
    assert "ENOENT" in message
    assert directory.files == []
    assert part.fd == -1


def test_a_directory_that_vanished_is_an_error_that_says_so(tmp_path, reports):
    path = tmp_path / "gone"
    path.mkdir()
    directory = Directory(str(path), report=reports.append)
    path.rmdir()
    message = refusal(lambda: directory.open_part(name), KernelError)
    assert "removed or moved" in message


def test_a_full_table_of_descriptors_is_an_error_that_says_so(directory):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        message = refusal(lambda: directory.open_part(name), KernelError)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in message


def test_a_network_file_system_that_fails_on_close_is_not_taken_for_success(
    directory, tmp_path, monkeypatch
):
    part = directory.open_part(name)
    real = os.close

    def fail(fd):
        real(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", fail)
    with pytest.raises(KernelError, match="close"):
        directory.complete(part, 1)
    assert entries(tmp_path) == [name(1) + ".part"]


def test_parts_of_a_killed_recording_are_reported_and_left_alone(directory, tmp_path):
    mine = directory.open_part(name)
    for stale in (name(7), name(8)):
        (tmp_path / (stale + ".part")).write_bytes(b"readable up to the last flush")
    for other in ("movie.part", name(9).replace("eth0", "eth1") + ".part", name(10)):
        (tmp_path / other).write_bytes(b"not ours")
    expected = [str(tmp_path / (name(sequence) + ".part")) for sequence in (7, 8)]
    assert directory.stale_parts() == expected
    assert all(os.path.exists(path) for path in expected)
    directory.discard(mine)
    assert directory.stale_parts() == expected


def test_without_a_pattern_no_part_counts_as_stale(tmp_path, reports):
    (tmp_path / (name(1) + ".part")).write_bytes(b"")
    assert Directory(str(tmp_path), report=reports.append).stale_parts() == []


def test_several_threads_complete_files_at_once(directory, tmp_path):
    """Eight threads fight for the same sequence numbers: every file gets a name of its own."""

    def record():
        for _ in range(25):
            part = directory.open_part(name)
            os.write(part.fd, b"x" * part.sequence)
            directory.complete(part, part.sequence)

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(directory.files) == len(entries(tmp_path)) == 200
    for file in directory.files:
        assert os.stat(file.path).st_size == file.bytes == file.packets
    assert directory.stale_parts() == []
