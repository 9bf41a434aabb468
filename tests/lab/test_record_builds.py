"""The bytes are the same under every build of the program, with its metadata and without."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import threading
import time
from pathlib import Path

import pytest
from capture_files import contents, packets
from ledger_checks import Wire, check_books
from patched_command import older_kernel
from receiver_namespace import in_receiver
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import Sender, send_frames
from xdpcap.programs.builds import OBJECTS
from xdpcap.programs.program import Program
from xdpcap.record import capture
from xdpcap.record.capture import Capture
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk
from xdpcap.savefile import headers
from xdpcap.savefile.reader import read_packets
from xdpcap.savefile.sink import FileSink

BARE = Path(__file__).parents[1] / "programs" / "redirect_bare.bpf.c"
LENGTHS = [length for short in range(60, 201) for length in (short, 1514)]
FRAMES = [numbered_frame(length, number) for number, length in enumerate(LENGTHS)]
RING = 4096
WAIT_S = 10.0


class LibraryRecorder:
    """One queue of rx0 recorded through the library: own memory, own file, any program."""

    def __init__(self, lab, path: Path, frame_size: int = 2048, ring: int = RING) -> None:
        self.lab, self.path = lab, path
        self.umem = Umem(max(ring * frame_size, 4096), frame_size=frame_size, fill_size=ring)
        self.xsk = Xsk(self.umem, "rx0", 0, rx_size=ring)
        self.umem.populate_fill(ring)
        self.sink = FileSink(1 << 18, 4, "buffered")
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        header = headers.section_header("", "", "") + headers.interface_block(snaplen=0, name="x")
        self.sink.open_file(self._fd, -1, header)
        self.capture = Capture(self.xsk, self.sink, clock="monotonic", flush_interval_s=0.02)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        assert self.capture.run() == capture.STOPPED

    @contextlib.contextmanager
    def attached(self, program: Program, mode: str):
        """Under this program; on leaving, everything that came is in the file."""
        program.attach(self.lab.rx_ifindex, mode)
        program.bind_queue(0, self.xsk.fd)
        yield
        program.detach()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + WAIT_S * PATIENCE
        while self.sink.counters[0] < count:
            assert time.monotonic() < deadline, self.sink.counters
            time.sleep(0.005)

    def stop(self) -> list:
        """End, and return the packets of the file."""
        self.capture.request_stop()
        self._thread.join(WAIT_S)
        self.sink.finish_file()
        assert self.sink.wait(WAIT_S)
        assert [finished.error for finished in self.sink.collect()] == [0]
        self.capture.close()
        self.sink.close()
        self.xsk.close()
        self.umem.close()
        os.close(self._fd)
        return list(read_packets(self.path))


def bare_program(directory: Path) -> Program:
    """A program of somebody else: it redirects, and puts no metadata before the packet."""
    target = directory / "redirect_bare.bpf.o"
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", include]
    subprocess.run(["clang", *flags, "-c", str(BARE), "-o", str(target)], check=True)
    return Program(str(target), 1)


# --- by the library


@pytest.mark.parametrize("frame_size", [2048, 4096])
@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("variant", ["frags", "plain", "legacy"])
@in_receiver
def test_headroom_and_metadata_never_shift_the_bytes(lab, tmp_path, variant, mode, frame_size):
    recorder = LibraryRecorder(lab, tmp_path / "a.pcapng", frame_size)
    with Program(str(OBJECTS / f"record_{variant}.bpf.o"), 1) as program:
        before_ns = time.time_ns()
        with recorder.attached(program, mode):
            send_frames(lab, FRAMES)
            recorder.wait_for(len(FRAMES))
        after_ns = time.time_ns()
    recorded = recorder.stop()
    assert recorder.capture.no_meta == 0
    assert [p.data for p in recorded] == FRAMES
    assert all(before_ns < p.ts_ns < after_ns for p in recorded)


@pytest.mark.parametrize("mode", ["native", "generic"])
@in_receiver
def test_packets_without_metadata_are_stamped_by_the_worker(lab, tmp_path, mode):
    recorder = LibraryRecorder(lab, tmp_path / "a.pcapng")
    with bare_program(tmp_path) as program:
        before_ns = time.time_ns()
        with recorder.attached(program, mode):
            send_frames(lab, FRAMES)
            recorder.wait_for(len(FRAMES))
        after_ns = time.time_ns()
    recorded = recorder.stop()
    assert recorder.capture.no_meta == len(FRAMES)
    assert [p.data for p in recorded] == FRAMES
    assert [p.origlen for p in recorded] == LENGTHS
    times = [p.ts_ns for p in recorded]
    assert before_ns < times[0] and times[-1] < after_ns and times == sorted(times)


@pytest.mark.parametrize("ring", [1, 8])
@in_receiver
def test_metadata_of_an_earlier_packet_in_the_same_memory_is_not_believed(lab, tmp_path, ring):
    """Copy mode reuses frames as they are: what stands before a packet may be an old header."""
    recorder = LibraryRecorder(lab, tmp_path / "a.pcapng", ring=ring)
    sent = [numbered_frame(1514 if number % 2 else 60, number) for number in range(60)]
    with Program(str(OBJECTS / "record_plain.bpf.o"), 1) as ours, bare_program(tmp_path) as bare:
        between_ns = []
        for turn in range(6):
            with Sender(lab) as sender, recorder.attached((ours, bare)[turn % 2], "native"):
                between_ns.append(time.time_ns())
                for number in range(10 * turn, 10 * turn + 10):
                    sender.send([sent[number]])
                    recorder.wait_for(number + 1)
    recorded = recorder.stop()
    assert recorder.capture.no_meta == 30
    assert [p.data for p in recorded] == sent
    assert [p.origlen for p in recorded] == [len(frame) for frame in sent]
    for turn, since_ns in enumerate(between_ns):
        assert all(p.ts_ns > since_ns for p in recorded[10 * turn : 10 * turn + 10])


# --- by the command, told that the kernel is older


@pytest.mark.parametrize(
    ("release", "attach"),
    [("6.5.0", "native"), ("5.8.0", "native"), ("5.2.0", "native"), ("5.2.0", "generic")],
)
def test_what_an_older_kernel_records_is_the_same(lab, record, release, attach):
    # Before 5.11 the locked memory of root is limited too; this is less than any default.
    recorder = record(
        "--json", "--attach", attach, "--umem-size", "2MiB", env=older_kernel(release)
    )
    wire = Wire(lab)
    wire.send(FRAMES)
    assert wire.arrived() == len(FRAMES)
    result = recorder.stop()
    assert check_books(result)["written"] == len(FRAMES)
    assert contents(result.files) == FRAMES


def test_a_frame_that_is_used_again_shows_nothing_of_the_packet_before(lab, record):
    """With one frame of memory every packet lies where the last one lay."""
    recorder = record("--json", "--ring-size", "1", "--umem-size", "4096")
    sent = [numbered_frame((1514, 60, 1000, 61)[number % 4], number) for number in range(200)]
    with Sender(lab) as sender:
        for frame in sent:
            sender.send([frame])
            time.sleep(0.002)
    result = recorder.stop()
    recorded = packets(result.files)
    assert result.total["written"] + result.total["rx_dropped"] == len(sent)
    by_number = {int.from_bytes(frame[42:50]): frame for frame in sent}
    assert len(recorded) > len(sent) // 2
    assert all(p.data == by_number[int.from_bytes(p.data[42:50])] for p in recorded)
