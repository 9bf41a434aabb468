"""Recording by a program of the user's own: --bpf and xdp:FILE:PROGRAM:INTERFACE.

The objects are those of docs/custom-programs.md, compiled and recorded with by the page's own
commands, so that neither can rot.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from capture_files import contents, packets
from compiled_programs import compiled_text
from kernel_objects import still_there
from ledger_checks import Wire, check_books
from leftovers import attached
from recorder import Recorder

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "custom-programs.md"
EXAMPLES = ROOT / "docs" / "examples"

SHORT = [numbered_frame(60 + number % 60, number) for number in range(500)]
LONG = [numbered_frame(200, number) for number in range(300)]


def udp(port: int, number: int) -> bytes:
    """A frame over IPv4 and UDP to a port; the lab's frames are UDP as well, to another."""
    frame = bytearray(numbered_frame(80, number))
    assert frame[12:14] == b"\x08\x00" and frame[23] == 17
    frame[36:38] = struct.pack(">H", port)
    return bytes(frame)


def commands(start: str) -> list[str]:
    """The page's command lines that begin with this word."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    found = [line for line in lines if line.split()[0] == start]
    assert found, f"{PAGE.name} has no {start}"
    return found


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A directory with the examples, compiled as the page says."""
    directory = tmp_path / "examples"
    shutil.copytree(EXAMPLES, directory)
    bin_directory = os.path.dirname(sys.executable)
    env = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}"}
    for command in commands("clang"):
        subprocess.run(command, shell=True, check=True, cwd=directory, env=env)
    return directory


@pytest.fixture
def record(record: Callable[..., Recorder], request: pytest.FixtureRequest):
    """The lab's `record`, where the objects are if the test has any."""
    if "objects" not in request.fixturenames:
        return record
    objects = request.getfixturevalue("objects")
    return functools.partial(record, preexec=lambda: os.chdir(objects))


def recorded_with(record: Callable[..., Recorder], command: str) -> Recorder:
    """One of the page's commands, on rx0 and into the test's directory."""
    words = shlex.split(command)
    assert words[:2] == ["xdpcap", "record"]
    options = iter(words[2:])
    interfaces, rest = [], []
    for word in options:
        if word == "-i":
            interfaces.append(re.sub(r"\beth1$", "rx0", next(options)))
        elif word == "-o":
            next(options)
        else:
            rest.append(word)
    return record(*rest, "--json", interfaces=interfaces)


def test_every_command_of_the_page_records_what_its_program_chooses(lab, record, objects, tmp_path):
    sent = [udp(53, 1), *LONG[:20], udp(53, 2), *SHORT[:20], udp(54, 3)]
    # udp(): 80 bytes, short as well.
    chosen = {"dns": [sent[0], sent[21]], "short": [f for f in sent if len(f) <= 128]}
    seen = set()
    for number, command in enumerate(commands("xdpcap")):
        kind = "dns" if "dns" in command else "short"
        seen.add(kind)
        directory = tmp_path / str(number)
        directory.mkdir()
        recorder = recorded_with(functools.partial(record, directory=directory), command)
        send_frames(lab, sent)
        result = recorder.stop()
        assert result.returncode == 0, result.stderr
        assert contents(result.files) == chosen[kind]
        assert check_books(result)["written"] == len(chosen[kind])
    assert seen == {"dns", "short"}


def test_a_program_with_our_header_is_counted_and_stamped_as_ours_is(lab, record, objects):
    recorder = record("--json", "--bpf", "dns.bpf.o")
    assert "dns_record of dns.bpf.o, in place of xdpcap's" in recorder.stderr
    assert "counted in user space" not in recorder.stderr
    assert "CLOCK_MONOTONIC" in recorder.stderr
    assert attached(lab).name == "dns_record"
    wanted = [udp(53, number) for number in range(100)]
    before_ns = time.time_ns()
    send_frames(lab, [frame for pair in zip(wanted, SHORT, strict=False) for frame in pair])
    after_ns = time.time_ns()
    time.sleep(0.3)
    result = recorder.stop()
    assert contents(result.files) == wanted
    # The program's time and not the worker's, which would be later than all of them.
    assert all(before_ns - 10**6 < p.ts_ns < after_ns + 10**6 for p in packets(result.files))
    total = check_books(result)
    assert (total["seen"], total["redirected"], total["filtered"]) == (200, 100, 100)
    (interface,) = result.report["interfaces"]
    assert interface["program"] == "dns_record of dns.bpf.o"
    assert interface["counted_by"] == "program"
    assert "stamped by the worker" not in result.stderr.split("recording rx0")[1]


def test_a_program_without_counters_is_counted_in_user_space_and_says_so(lab, record, objects):
    recorder = record("--json", interfaces=["xdp:short.bpf.o::rx0"])
    assert "counted in user space: what the program passes or drops is not seen" in recorder.stderr
    send_frames(lab, SHORT + LONG)
    result = recorder.stop()
    assert contents(result.files) == SHORT
    total = check_books(result)
    assert total["seen"] == total["redirected"] == total["written"] == len(SHORT)
    assert result.report["interfaces"][0]["counted_by"] == "worker"
    assert f"{len(SHORT)} packets came without the program's metadata" in result.stderr
    assert "short_record puts no struct xdpcap_meta before them" in result.stderr


def test_losses_of_a_program_without_counters_are_in_the_ledger(lab, record, objects):
    recorder = record(
        "--json", "--bpf", "short.bpf.o", "--ring-size", "64", "--umem-size", "128KiB"
    )
    wire = Wire(lab)
    wire.blast(300_000)
    arrived = wire.arrived()
    total = check_books(recorder.stop())
    assert total["rx_dropped"] + total["rx_ring_full"] > 0
    assert total["seen"] == arrived


def test_a_map_with_too_few_entries_is_given_room_for_every_queue(make_lab, record, objects):
    # dns.bpf.c has room for one queue; what it has for more is left alone.
    lab = make_lab(queues=3)
    recorder = record("--json", "--bpf", "dns.bpf.o", lab=lab)
    for queue in range(3):
        send_frames(lab, [udp(53, queue)] * 10, queue)
    total = check_books(recorder.stop())
    assert total["written"] == 30 and total["filtered"] == 0


def test_packets_of_several_buffers_reach_a_program_that_takes_them(make_lab, record, tmp_path):
    text = (EXAMPLES / "short.bpf.c").read_text().replace('SEC("xdp")', 'SEC("xdp.frags")')
    body = text[text.index("struct {") : text.index("char _license")].replace("> 128", "> 9000")
    path = compiled_text(body, tmp_path)
    lab = make_lab(mtu=9000)
    sent = [numbered_frame(9000, number) for number in range(20)]
    recorder = record("--json", "--attach", "native", "--bpf", str(path), lab=lab)
    assert "multi-buffer" in recorder.stderr
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    check_books(result)


def test_a_program_goes_with_the_process_however_it_ends(lab, record, objects):
    recorder = record("--bpf", "dns.bpf.o")
    number = attached(lab).prog_id
    recorder.kill()
    assert still_there("prog", {number}) == set()
    assert attached(lab) is None
    again = record("--json", "--bpf", "dns.bpf.o")
    again.stop()
    assert attached(lab) is None


def test_another_program_on_the_interface_is_never_replaced(lab, record, objects, tmp_path):
    first = record()
    there = attached(lab)
    refused = record("--bpf", "dns.bpf.o", ready=False, directory=tmp_path / "second").wait()
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert f"an XDP program is already attached (id {there.prog_id}" in refused.stderr
    assert attached(lab) == there
    assert first.stop().returncode == 0


def test_a_priority_without_a_dispatcher_is_said_to_have_no_effect(lab, record):
    recorder = record("--json", "--priority", "5")
    assert "rx0: no libxdp dispatcher, so --priority has no effect" in recorder.stderr
    assert recorder.stop().returncode == 0


# --- what is refused


def refused(record, lab, code: int, *arguments: str) -> str:
    result = record("--json", *arguments, ready=False).wait()
    assert result.returncode == code, result.stderr
    assert result.stdout == b"" and result.files == []
    told = [line for line in result.stderr.splitlines() if line.startswith("xdpcap: ")]
    assert len(told) == 1 and "; " in told[0] and "Traceback" not in result.stderr
    assert attached(lab) is None
    return told[0]


def test_a_program_that_the_verifier_refuses_is_told_in_the_verifiers_words(lab, record, tmp_path):
    text = (EXAMPLES / "short.bpf.c").read_text()
    body = text[text.index("struct {") : text.index("char _license")]
    spoiled = body.replace(
        "if (ctx->data_end",
        "if (*(volatile char *)(long)ctx->data)\n\t\treturn XDP_DROP;\n\tif (ctx->data_end",
    )
    line = refused(record, lab, 1, "--bpf", str(compiled_text(spoiled, tmp_path)))
    assert "loading custom.bpf.o: EACCES" in line and "invalid access to packet" in line


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("none.o", "none.o: No such file or directory; --bpf names a compiled eBPF object"),
        ("dns.bpf.c", "dns.bpf.c is no eBPF object that libbpf can read"),
        ("dns.bpf.o:nope", "dns.bpf.o has no XDP program named nope; it has dns_record"),
    ],
)
def test_what_is_no_program_is_one_line(lab, record, objects, argument, says):
    assert says in refused(record, lab, 2, "--bpf", argument)
