"""Where captures are read from: files, standard input, compressed or not, whole or damaged."""

from __future__ import annotations

import gzip
import os
import random
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib

import pytest
import zstandard

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.savefile.input_file import open_source

# Compresses a little, as captures do: half of it repeats, half of it does not.
RANDOM = random.Random(7)
DATA = b"".join(RANDOM.randbytes(40) + bytes(24) for _ in range(12_000))


def gz(data: bytes = DATA) -> bytes:
    return gzip.compress(data)


def zst(data: bytes = DATA) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


SKIPPABLE = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
COMPRESSIONS = {"gz": gz, "zst": zst}


def drain(path) -> tuple[bytes, str | None]:
    """Everything that comes out, and what is said to be wrong."""
    source = open_source(str(path))
    with os.fdopen(source.fd, "rb") as stream:
        data = stream.read()
    return data, source.damage


def written(tmp_path, data: bytes):
    path = tmp_path / "capture"
    path.write_bytes(data)
    return path


def from_stdin(data: bytes, code: str = "", **options) -> subprocess.CompletedProcess[bytes]:
    """A new process that hands its standard input on through open_source("-")."""
    code = code or (
        "import os, sys\n"
        "from xdpcap.errors import UsageError\n"
        "from xdpcap.savefile.input_file import open_source\n"
        "try: source = open_source('-')\n"
        "except UsageError as error: sys.exit(str(error))\n"
        "assert source.fd > 2\n"
        "while piece := os.read(source.fd, 1 << 16): sys.stdout.buffer.write(piece)\n"
        "if source.damage: sys.exit(source.damage)\n"
    )
    if "stdin" not in options:
        options["input"] = data
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=60,
        check=False,
        **options,
    )


# -- what is read ---------------------------------------------------------------------------------


def test_a_plain_file_is_handed_over_as_the_file_itself_and_from_its_start(tmp_path):
    path = written(tmp_path, DATA)
    fd, name = open_source(str(path))
    assert name == str(path)
    assert os.path.samestat(os.fstat(fd), os.stat(path))
    assert os.read(fd, len(DATA)) == DATA
    os.close(fd)


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\x28\xb5", b"\xa1\xb2\xc3"])
def test_a_file_shorter_than_a_magic_is_plain(tmp_path, data):
    assert drain(written(tmp_path, data)) == (data, None)


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("size", [0, 1, 4096, len(DATA)])
def test_a_compressed_file_is_recognised_by_its_magic_and_comes_out_whole(tmp_path, kind, size):
    path = written(tmp_path, COMPRESSIONS[kind](DATA[:size]))
    assert drain(path) == (DATA[:size], None)


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_several_members_or_frames_follow_each_other(tmp_path, kind):
    pack = COMPRESSIONS[kind]
    parts = [DATA[:100], b"", DATA[100:70_000], DATA[70_000:]]
    path = written(tmp_path, b"".join(pack(part) for part in parts))
    assert drain(path) == (DATA, None)


def test_hundreds_of_small_members_and_frames_cross_every_boundary_of_what_is_read(tmp_path):
    for pack in COMPRESSIONS.values():
        parts = [DATA[at : at + 200] for at in range(0, len(DATA), 200)]
        assert drain(written(tmp_path, b"".join(map(pack, parts)))) == (DATA, None)


def test_what_the_command_line_tools_compress_is_read(tmp_path):
    path = written(tmp_path, DATA)
    for command in (
        ["gzip", "-9", "-c", path],
        ["zstd", "-q", "-19", "--long=27", "-c", path],
        ["zstd", "-q", "--check", "-T2", "-c", path],
    ):
        packed = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
        assert drain(written(tmp_path, packed)) == (DATA, None)
        path.write_bytes(DATA)


def test_zeros_may_fill_up_the_end_of_a_gzip_file(tmp_path):
    assert drain(written(tmp_path, gz() + bytes(100_000))) == (DATA, None)
    assert drain(written(tmp_path, gz() + bytes(3) + gz(b"more"))) == (DATA + b"more", None)


def test_skippable_frames_of_zstandard_are_passed_over_at_either_end(tmp_path):
    assert drain(written(tmp_path, SKIPPABLE + zst() + SKIPPABLE)) == (DATA, None)


def test_the_end_of_the_name_says_nothing(tmp_path):
    path = tmp_path / "plain.gz"
    path.write_bytes(DATA)
    assert drain(path) == (DATA, None)


def test_a_named_pipe_is_read_as_it_comes(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for data in (DATA, gz(), zst()):
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        assert drain(path) == (DATA, None)
        writer.join()


# -- standard input -------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gz, zst])
def test_standard_input_is_read_through_a_pipe(pack):
    done = from_stdin(pack(DATA))
    assert (done.returncode, done.stdout, done.stderr) == (0, DATA, b"")


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f\x8b", b"abc"])
def test_standard_input_may_be_shorter_than_a_magic(data):
    done = from_stdin(data)
    assert done.stdout == (b"" if data == b"\x1f\x8b" else data)
    assert (done.returncode == 0) == (data != b"\x1f\x8b")


@pytest.mark.parametrize("pack", [bytes, gz, zst])
def test_standard_input_may_be_a_file_that_has_been_read_to_somewhere(tmp_path, pack):
    path = written(tmp_path, b"before" + pack(DATA))
    with path.open("rb") as stream:
        os.lseek(stream.fileno(), 6, os.SEEK_SET)
        done = from_stdin(b"", stdin=stream)
    assert (done.returncode, done.stdout) == (0, DATA)


def test_a_first_byte_that_comes_alone_does_not_hide_the_compression():
    process = subprocess.Popen(
        [sys.executable, "-c", "import os; os.write(1, b'\\x1f'); import time; time.sleep(0.2);"
         f"os.write(1, {gz(b'slowly')[1:]!r})"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    done = from_stdin(b"", stdin=process.stdout)
    process.stdout.close()
    assert process.wait(10) == 0
    assert (done.returncode, done.stdout) == (0, b"slowly")


def test_a_terminal_is_no_capture():
    leader, terminal = os.openpty()
    done = from_stdin(b"", stdin=terminal)
    os.close(leader)
    os.close(terminal)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "standard input: a terminal; send a capture into it, or name a file\n"
    )


# -- what can't be opened -------------------------------------------------------------------------


def refusal(path) -> str:
    with pytest.raises(UsageError) as caught:
        open_source(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_can_not_be_opened_is_one_line_with_the_cause(tmp_path):
    missing = tmp_path / "missing"
    assert refusal(missing) == f"{missing}: No such file or directory; name a capture file"
    assert refusal(tmp_path) == f"{tmp_path}: a directory; name the capture files in it"
    below = written(tmp_path, b"") / "x"
    assert refusal(below) == f"{below}: Not a directory; name a capture file"
    assert "name a capture file" in refusal("a\0b")
    assert "name a capture file" in refusal("")


def test_a_file_without_permission_is_refused(tmp_path):
    path = written(tmp_path, DATA)
    path.chmod(0)
    tmp_path.chmod(stat.S_IRWXU | stat.S_IXOTH | stat.S_IROTH)
    if os.geteuid() != 0:
        assert refusal(path) == f"{path}: Permission denied; name a capture file"
        return
    # root may read everything: a child that is nobody may not.
    code = (
        "import os, sys\n"
        "from xdpcap.savefile.input_file import open_source\n"
        "from xdpcap.errors import UsageError\n"
        "fd = os.open(sys.argv[1], os.O_PATH)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: open_source(f'/proc/self/fd/{fd}')\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith(": Permission denied; name a capture file\n")


def test_nothing_stays_open_after_a_refusal(tmp_path):
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "missing"):
        refusal(path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# -- damage ---------------------------------------------------------------------------------------


def decompressed_before(kind: str, packed: bytes) -> bytes:
    """All that the library itself gets out of the start of a stream."""
    if kind == "gz":
        return zlib.decompressobj(wbits=31).decompress(packed)
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_stream_that_breaks_off_hands_out_all_before_and_says_so(tmp_path, kind):
    packed = COMPRESSIONS[kind](DATA)
    for cut in (5, 100, len(packed) // 2, len(packed) - 1):
        path = written(tmp_path, packed[:cut])
        data, damage = drain(path)
        assert data == decompressed_before(kind, packed[:cut])
        assert DATA.startswith(data)
        assert damage.startswith(f"{path}: the ")
        assert damage.endswith(f" stream breaks off, before offset {cut}")


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_second_member_or_frame_that_breaks_off_is_noticed(tmp_path, kind):
    pack = COMPRESSIONS[kind]
    data, damage = drain(written(tmp_path, pack(DATA) + pack(DATA)[:-3]))
    assert data[: len(DATA)] == DATA
    assert "breaks off" in damage


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_wrong_bytes_are_damage_at_their_place_and_what_stands_before_is_kept(tmp_path, kind):
    # Without its checksum Zstandard can't tell that stored bytes are wrong.
    checked = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(gz() if kind == "gz" else checked.compress(DATA))
    at = len(packed) // 2
    packed[at : at + 64] = b"\xff" * 64
    path = written(tmp_path, packed)
    data, damage = drain(path)
    assert damage.startswith(f"{path}: damaged ")
    assert "\n" not in damage
    offset = int(damage.rsplit(" ", 1)[1])
    assert at < offset <= len(packed)
    # A block of Zstandard is 128 KiB, and comes out whole or not at all.
    intact = decompressed_before(kind, packed[:at])
    kept = len(intact) if kind == "gz" else len(intact) - (1 << 17)
    assert data[:kept] == DATA[:kept]
    assert kept > 100_000


def test_a_wrong_checksum_is_damage_after_all_the_data(tmp_path):
    packed = bytearray(gz())
    for at in (-1, -5):
        packed[at] ^= 1
        data, damage = drain(written(tmp_path, packed))
        assert data == DATA
        assert "damaged gzip stream" in damage
        assert "check" in damage


def test_a_wrong_checksum_of_zstandard_is_damage(tmp_path):
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(DATA))
    packed[-1] ^= 1
    data, damage = drain(written(tmp_path, packed))
    assert "checksum" in damage
    assert DATA.startswith(data)


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_what_follows_a_stream_and_is_none_is_reported_after_the_data(tmp_path, kind):
    data, damage = drain(written(tmp_path, COMPRESSIONS[kind](DATA) + b"something else"))
    assert data == DATA
    assert damage is not None


def test_the_damage_is_known_as_soon_as_the_end_is_seen(tmp_path):
    path = written(tmp_path, gz()[:-1])
    for _ in range(50):
        source = open_source(str(path))
        while os.read(source.fd, 1 << 20):
            pass
        assert source.damage is not None
        os.close(source.fd)


# -- bounds ---------------------------------------------------------------------------------------


def test_memory_stays_bounded_when_a_little_stands_for_very_much(tmp_path):
    zeros = bytes(1 << 20)
    packer = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    small = zlib.compressobj(wbits=31)
    for bomb in (packed, b"".join(small.compress(zeros) for _ in range(256)) + small.flush()):
        tracemalloc.start()
        source = open_source(str(written(tmp_path, bomb)))
        total = 0
        while piece := os.read(source.fd, 1 << 20):
            total += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        os.close(source.fd)
        assert total == 256 << 20
        assert peak < 160 << 20


def pumps() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("read ")]


def test_without_a_thread_to_be_had_it_is_refused_and_nothing_stays_open(tmp_path, monkeypatch):
    descriptors = len(os.listdir("/proc/self/fd"))
    path = str(written(tmp_path, zst(DATA)))

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(XdpcapError, match=r"thread read .* can't be started"):
        open_source(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_the_thread_waits_for_its_reader_and_ends_when_the_reader_leaves(tmp_path):
    descriptors = len(os.listdir("/proc/self/fd"))
    source = open_source(str(written(tmp_path, zst(DATA * 20))))
    assert os.read(source.fd, 4) == DATA[:4]
    assert len(pumps()) == 1
    assert pumps()[0].daemon
    os.close(source.fd)
    deadline = time.monotonic() + 10
    while pumps() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pumps()
    assert source.damage is None
    assert len(os.listdir("/proc/self/fd")) == descriptors
