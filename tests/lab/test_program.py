"""The recording program, run by the kernel on sample packets (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from abi_header import CONSTANTS, META, read_meta
from kernel_requirements import FRAGS, TAI, TEST_RUN
from receiver_namespace import in_receiver

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.programs.builds import OBJECTS
from xdpcap.programs.counters import Verdicts
from xdpcap.programs.program import Program, attached_program
from xdpcap.programs.test_run import run_once
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

# enum xdp_action of linux/bpf.h.
XDP_PASS, XDP_REDIRECT = 2, 4
NOTHING = Verdicts()
QUEUES = 3

CLOCKS = {"tai": time.CLOCK_TAI, "monotonic": time.CLOCK_MONOTONIC}
# Every variant with every clock it knows.
VARIANTS = [
    pytest.param("frags", "tai", marks=[FRAGS, TAI]),
    pytest.param("frags", "monotonic", marks=FRAGS),
    pytest.param("plain", "tai", marks=TAI),
    ("plain", "monotonic"),
    ("legacy", "monotonic"),
]
BUILDS = [pytest.param("frags", marks=FRAGS), "plain", "legacy"]
SIZES = (14, 60, 61, 64, 590, 1514, 3000)


@pytest.fixture
def lab(make_lab):
    """A lab of three queues: the program looks at the queue of the interface."""
    return make_lab(queues=QUEUES)


def load(variant: str, clock: str, queues: int = QUEUES) -> Program:
    return Program(str(OBJECTS / f"record_{variant}.bpf.o"), queues, clock=clock)


@contextmanager
def socket_on(program: Program, queue: int) -> Iterator[None]:
    """A socket in the program's map for a queue of rx0."""
    with Umem(1 << 20) as umem, Xsk(umem, "rx0", queue) as xsk:
        program.bind_queue(queue, xsk.fd)
        yield


def packet(size: int) -> bytes:
    return numbered_frame(size, size) if size >= 50 else bytes(range(size))


@TEST_RUN
@pytest.mark.parametrize(("variant", "clock"), VARIANTS)
@in_receiver
def test_a_queue_without_a_socket_passes_its_packets_unchanged(lab, variant, clock):
    with load(variant, clock) as program:
        for size in SIZES:
            result = run_once(program, packet(size), queue=1, ifindex=lab.rx_ifindex)
            assert result == (XDP_PASS, b"", packet(size))
        passed = Verdicts(passed=len(SIZES), passed_bytes=sum(SIZES))
        assert program.verdicts() == [NOTHING, passed, NOTHING]


@TEST_RUN
@pytest.mark.parametrize(("variant", "clock"), VARIANTS)
@in_receiver
def test_a_queue_with_a_socket_redirects_its_packets_with_a_header_before_them(lab, variant, clock):
    with load(variant, clock) as program, socket_on(program, 2):
        for size in SIZES:
            before = time.clock_gettime_ns(CLOCKS[clock])
            action, header, data = run_once(program, packet(size), queue=2, ifindex=lab.rx_ifindex)
            after = time.clock_gettime_ns(CLOCKS[clock])
            assert (action, data) == (XDP_REDIRECT, packet(size))
            meta = read_meta(header)
            assert before <= meta.pop("ts_ns") <= after
            assert meta == {
                "origlen": size,
                "hash": 0,
                "vlan_tci": 0,
                "vlan_proto": 0,
                "reserved": 0,
                "flags": CONSTANTS["XDPCAP_META_TS"] | CONSTANTS["XDPCAP_META_ORIGLEN"],
                "magic": CONSTANTS["XDPCAP_META_MAGIC"],
            }
        redirected = Verdicts(redirected=len(SIZES), redirected_bytes=sum(SIZES))
        assert program.verdicts() == [NOTHING, NOTHING, redirected]


@TEST_RUN
@in_receiver
def test_the_header_is_32_bytes_and_its_mark_stands_last(lab):
    # 32 is what bpf_xdp_adjust_meta() takes before kernel 6.4; the reader finds the
    # mark in the four bytes before the packet.
    assert META.size == 32
    with load("plain", "monotonic") as program, socket_on(program, 0):
        _, header, _ = run_once(program, packet(60), ifindex=lab.rx_ifindex)
    assert len(header) == 32
    assert int.from_bytes(header[-4:], "little") == CONSTANTS["XDPCAP_META_MAGIC"]


@TEST_RUN
@pytest.mark.parametrize("variant", BUILDS)
@in_receiver
def test_releasing_a_queue_gives_its_packets_back_to_the_kernel(lab, variant):
    with load(variant, "monotonic") as program, socket_on(program, 0):
        run = partial(run_once, program)
        assert run(packet(60), ifindex=lab.rx_ifindex)[0] == XDP_REDIRECT
        program.release_queue(0)
        assert run(packet(60), ifindex=lab.rx_ifindex) == (XDP_PASS, b"", packet(60))
        assert program.verdicts()[0] == Verdicts(
            redirected=1, passed=1, redirected_bytes=60, passed_bytes=60
        )


@TEST_RUN
@pytest.mark.parametrize("variant", BUILDS)
@in_receiver
def test_a_queue_beyond_the_maps_passes_and_counts_nowhere(lab, variant):
    with load(variant, "monotonic", queues=2) as program:
        assert run_once(program, packet(60), queue=2, ifindex=lab.rx_ifindex)[0] == XDP_PASS
        assert program.verdicts() == [NOTHING, NOTHING]
        with pytest.raises(KernelError, match="queue 2"), socket_on(program, 2):
            pass


@FRAGS
@in_receiver
def test_the_length_of_a_packet_of_several_buffers_counts_all_of_them(lab):
    jumbo = numbered_frame(9000, 1)
    with load("frags", "monotonic") as program, socket_on(program, 0):
        action, header, data = run_once(program, jumbo, ifindex=lab.rx_ifindex)
        assert (action, data) == (XDP_REDIRECT, jumbo)
        assert read_meta(header)["origlen"] == 9000
        assert program.verdicts()[0] == Verdicts(redirected=1, redirected_bytes=9000)


def test_the_legacy_variant_knows_the_monotonic_clock_only():
    with pytest.raises(UsageError, match="supports only the monotonic clock"):
        load("legacy", "tai")


@pytest.mark.parametrize("size", [0, 4, 64, 1000, -200])
@pytest.mark.parametrize("variant", ["frags", "plain", "legacy"])
def test_a_truncated_object_is_one_clear_line(tmp_path, variant, size):
    whole = (OBJECTS / f"record_{variant}.bpf.o").read_bytes()
    path = tmp_path / "cut.bpf.o"
    path.write_bytes(whole[:size])
    with pytest.raises(XdpcapError) as caught:
        Program(str(path))
    said = str(caught.value)
    assert said.startswith(f"{path} is not a complete eBPF object") and "make setup" in said
    assert "\n" not in said


def test_a_missing_object_and_a_directory_are_named_as_such(tmp_path):
    with pytest.raises(KernelError, match=r"none\.bpf\.o.*ENOENT"):
        Program(str(tmp_path / "none.bpf.o"))
    with pytest.raises(KernelError, match="EISDIR"):
        Program(str(tmp_path))


def compiled(tmp_path: Path, body: str) -> Path:
    """An XDP program `xdpcap_record` with this body, compiled as the build does it."""
    source, target = tmp_path / "bad.bpf.c", tmp_path / "bad.bpf.o"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("xdp") int xdpcap_record(struct xdp_md *ctx)\n'
        f'{{\n{body}\n}}\nchar _license[] SEC("license") = "GPL";\n'
    )
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", target]
    subprocess.run(command, check=True)
    return target


def test_what_the_verifier_says_last_is_in_the_error(tmp_path):
    unchecked = "char *data = (void *)(long)ctx->data;\nreturn data[12] == 8 ? XDP_PASS : XDP_DROP;"
    path = compiled(tmp_path, unchecked)
    with pytest.raises(KernelError) as caught:
        Program(str(path))
    said = str(caught.value)
    assert said.startswith("loading bad.bpf.o: EACCES")
    assert "invalid access to packet, off=12 size=1" in said
    assert "\n" not in said


@TEST_RUN
@in_receiver
def test_a_device_that_takes_no_offloaded_program_is_told_as_such(lab):
    with load("plain", "monotonic") as program:
        with pytest.raises(KernelError) as caught:
            program.attach(lab.rx_ifindex, "offload")
        assert program.attach_mode is None
    assert str(caught.value).startswith(f"attach(offload, ifindex {lab.rx_ifindex}): ")
    assert "; " in str(caught.value)
    assert attached_program(lab.rx_ifindex) is None


def test_an_object_without_our_program_says_so(tmp_path):
    path = compiled(tmp_path, "return XDP_PASS;")
    with Program(str(path)) as program:  # the body is sound, so the name is what matters
        assert run_once(program, packet(60))[0] == XDP_PASS
    with pytest.raises(UsageError, match="no XDP program named other; it has xdpcap_record"):
        Program(str(path), name="other")
