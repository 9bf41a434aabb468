"""`xdpcap record --xdp-hook`: what another XDP program gets and lets go, where a kernel allows it.

The kernel must have fentry for programs, which one without ftrace's direct calls lacks: there
the refusal is tested, and the rest in a guest: tests/vm/run 7.2 veth tests/lab/test_xdp_hook.py
"""

from __future__ import annotations

import functools
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_files import contents, packets
from compiled_programs import PROGRAMS, compiled
from ledger_checks import check_books
from leftovers import attached

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.errors import KernelError
from xdpcap.programs.builds import observer_variant, variants
from xdpcap.programs.observer import Observer
from xdpcap.programs.program import Program


def plain_program() -> Program:
    """An XDP program that passes what it gets: ours, with no socket in its map."""
    return Program(next(variants()).path, 1)


def prog_id(program: Program) -> int:
    """The id of a loaded program."""
    found = re.search(
        r"^prog_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{program.fd}").read_text(), re.M
    )
    assert found is not None
    return int(found[1])


@functools.cache
def refusal() -> str | None:
    """What this kernel says to an observer; None when it takes it."""
    if os.geteuid() != 0:
        return "the lab needs root"
    with plain_program() as program:
        try:
            Observer(observer_variant().path, prog_id(program), 1, 1).close()
        except KernelError as exc:
            return str(exc)
    return None


def where_programs_can_be_observed(test):
    """Elsewhere the test below this one of the refusal takes its place."""
    return pytest.mark.skipif("refusal() is not None", reason="no fentry for programs here")(test)


@pytest.fixture
def host_program(lab) -> Iterator[Program]:
    """A program on rx0 that is not the recording's."""
    with plain_program() as program:
        in_netns(lab.rx_ns, program.attach, lab.rx_ifindex, "native")
        yield program


@pytest.mark.skipif("refusal() is None")
def test_a_kernel_that_can_not_observe_is_one_line_and_nothing_changes(lab, record, host_program):
    before = attached(lab)
    result = record("--xdp-hook", str(prog_id(host_program)), ready=False).wait()
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("xdpcap: loading an observer of xdpcap_record")
    assert "this kernel can't observe programs" in line and "--mirror" in line
    assert attached(lab) == before
    assert result.files == []


@where_programs_can_be_observed
@pytest.mark.parametrize("at", ["entry", "exit"])
def test_what_a_program_gets_is_recorded_and_the_program_stays(lab, record, host_program, at):
    before = attached(lab)
    recorder = record("--json", "--xdp-hook", str(prog_id(host_program)), "--xdp-hook-at", at)
    where = {"entry": "before", "exit": "after"}[at]
    assert f"observing: packets are copied {where} xdpcap_record" in recorder.stderr
    sent = [numbered_frame(60 + n % 1455, n) for n in range(500)]
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    total = check_books(result)
    assert total["mirrored"] == total["written"] == len(sent)
    assert host_program.verdicts()[0].passed == len(sent)
    assert attached(lab) == before


@where_programs_can_be_observed
@pytest.mark.parametrize("at", ["entry", "exit"])
def test_what_the_program_made_of_each_packet_is_told_where_it_has_decided(
    lab, record, tmp_path, at
):
    path = compiled(PROGRAMS / "by_length.bpf.c", tmp_path)
    words = ["ip", "-n", lab.rx_ns, "link", "set", "dev", "rx0", "xdpdrv", "obj", str(path)]
    subprocess.run([*words, "sec", "xdp"], check=True)
    there = attached(lab)
    assert there is not None
    recorder = record("--json", "--xdp-hook", str(there.prog_id), "--xdp-hook-at", at)
    sent = [numbered_frame(60 + n, n) for n in range(100)]
    send_frames(lab, sent)
    result = recorder.stop()
    assert contents(result.files) == sent
    # draft-ietf-opsawg-pcapng, section 4.3: the octet of Linux_eBPF_XDP and an enum xdp_action.
    decided = [[struct.pack("<BQ", 2, len(frame) % 3)] for frame in sent]
    told = [packet.options.get("epb_verdict") for packet in packets(result.files)]
    assert told == (decided if at == "exit" else [None] * len(sent))


@where_programs_can_be_observed
def test_a_killed_observer_leaves_the_program_at_work(lab, record, host_program):
    recorder = record("--xdp-hook", str(prog_id(host_program)))
    recorder.kill()
    send_frames(lab, [numbered_frame(60, n) for n in range(10)])
    recorder.wait_for(lambda: host_program.verdicts()[0].passed == 10)


@pytest.mark.parametrize("number", ["4000000000", "-1"])
def test_an_id_that_no_program_has_is_one_line(lab, record, number):
    result = record("--xdp-hook", number, ready=False).wait()
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"xdpcap: --xdp-hook {number}: no program")
    assert "bpftool prog show" in line


@pytest.mark.parametrize("other", ["--mirror", "--sample=3", "--attach=generic"])
def test_what_would_need_a_program_of_ours_is_refused(lab, record, other):
    result = record("--xdp-hook", "1", other, ready=False).wait()
    assert result.returncode == 2
    assert f"--xdp-hook with {other.partition('=')[0]}" in result.stderr
