"""--dead-man: a recorder that hangs does not hold a host's traffic, and says what it missed."""

from __future__ import annotations

import re
import signal
import time
from contextlib import closing

import pytest
from capture_files import contents
from kernel_requirements import FRAGS
from ledger_checks import check_books
from receiver_namespace import in_receiver
from tcpdump import Tcpdump
from test_program import QUEUES, XDP_PASS, XDP_REDIRECT, socket_on

from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.errors import UsageError
from xdpcap.packets.filter import PacketFilter
from xdpcap.programs.builds import OBJECTS
from xdpcap.programs.dead_man import DeadMan
from xdpcap.programs.program import Program
from xdpcap.programs.test_run import run_once

TIMEOUT_S = 0.5
XDP_DROP = 1  # of linux/bpf.h
SILENT = re.compile(
    r"rx0: the recorder did not run for ([\d.]+) s: --dead-man passed (\d+) packets? to the "
    "kernel stack; recording goes on"
)


def frames(first: int, count: int) -> list[bytes]:
    return [numbered_frame(100, number) for number in range(first, first + count)]


def test_packets_pass_a_stopped_recorder_by_and_are_recorded_when_it_goes_on(lab, record, tmp_path):
    recorder = record("--json", "--dead-man", "500ms")
    send_frames(lab, frames(0, 100))
    recorder.send_signal(signal.SIGSTOP)
    time.sleep(2 * TIMEOUT_S)
    with Tcpdump(lab.rx_ns, "rx0", tmp_path / "stack.pcap") as stack:
        send_frames(lab, frames(100, 250))
        # What a host without a recorder would have had.
        assert stack.packets_once(250, 250 * 100) == frames(100, 250)
    recorder.send_signal(signal.SIGCONT)
    told = recorder.wait_for(lambda: SILENT.search(recorder.stderr))
    assert float(told[1]) >= 2 * TIMEOUT_S and told[2] == "250"
    send_frames(lab, frames(350, 100))
    result = recorder.stop()
    assert result.returncode == 0
    total = check_books(result)
    assert (total["passed"], total["redirected"], total["written"]) == (250, 200, 200)
    assert contents(result.files) == frames(0, 100) + frames(350, 100)
    assert len(SILENT.findall(result.stderr)) == 1


def test_a_mirror_that_hangs_copies_nothing_and_goes_on_when_it_is_back(lab, record):
    recorder = record("--json", "--mirror", "--dead-man", "2s")
    # At once: the first word was given before the first packet could come.
    send_frames(lab, frames(0, 100))
    recorder.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    send_frames(lab, frames(100, 30))
    recorder.send_signal(signal.SIGCONT)
    told = recorder.wait_for(lambda: SILENT.search(recorder.stderr))
    assert told[2] == "30"
    total = check_books(recorder.stop())
    assert (total["passed"], total["mirrored"], total["written"]) == (30, 100, 100)


def test_a_recorder_that_is_silent_for_less_keeps_every_packet(lab, record):
    recorder = record("--json", "--dead-man", "1h")
    recorder.send_signal(signal.SIGSTOP)
    send_frames(lab, frames(0, 100))
    time.sleep(2 * TIMEOUT_S)
    recorder.send_signal(signal.SIGCONT)
    result = recorder.stop()
    total = check_books(result)
    assert (total["passed"], total["written"]) == (0, 100)
    assert "--dead-man" not in result.stderr


def test_a_recorder_that_runs_renews_for_longer_than_the_interval(lab, record):
    # The statistics' ticks are rarer than the interval: it is woken for this alone.
    recorder = record("--json", "--dead-man", "500ms", "--stats-interval", "1h")
    for number in range(10):
        time.sleep(0.3 * TIMEOUT_S)
        send_frames(lab, frames(number, 1))
    result = recorder.stop()
    assert check_books(result)["written"] == 10
    assert "--dead-man" not in result.stderr


@pytest.mark.parametrize("variant", ["frags", "plain"])
@in_receiver
def test_the_program_passes_when_the_word_is_too_old_and_takes_again_when_it_is_renewed(
    lab, variant
):
    path = str(OBJECTS / f"record_{variant}.bpf.o")

    def action(program: Program) -> int:
        return run_once(program, bytes(60), ifindex=lab.rx_ifindex).action

    with Program(path, QUEUES, dead_man_ms=500) as program, socket_on(program, 0):
        assert action(program) == XDP_PASS  # nobody has given a word yet
        handle = DeadMan(program, (0,), TIMEOUT_S)
        assert handle.renew() is None
        assert action(program) == XDP_REDIRECT
        time.sleep(1.1 * TIMEOUT_S)
        assert [action(program) for _ in range(3)] == [XDP_PASS] * 3
        said = handle.renew()
        assert said is not None and "passed 3 packets" in said
        assert action(program) == XDP_REDIRECT
        assert handle.renew() is None
        counts = program.verdicts()[0]
        assert (counts.passed, counts.redirected) == (4, 2)
        handle.close()
        handle.close()


@FRAGS
@in_receiver
def test_a_word_that_is_too_old_passes_what_a_filter_would_take_or_drop(lab):
    path = str(OBJECTS / "record_frags.bpf.o")
    options = PacketFilter("tcp", "drop").program_options(path)
    udp = numbered_frame(60, 1)
    tcp = udp[:23] + b"\x06" + udp[24:]

    def actions(program: Program) -> list[int]:
        return [run_once(program, f, ifindex=lab.rx_ifindex).action for f in (tcp, udp)]

    with Program(path, QUEUES, dead_man_ms=500, **options) as program, socket_on(program, 0):
        assert actions(program) == [XDP_PASS, XDP_PASS]
        with closing(DeadMan(program, (0,), TIMEOUT_S)) as handle:
            handle.renew()
            assert actions(program) == [XDP_REDIRECT, XDP_DROP]
        counts = program.verdicts()[0]
        assert (counts.passed, counts.redirected, counts.filtered) == (2, 1, 1)


@in_receiver
def test_without_the_option_the_program_has_no_map_for_it(lab):
    with Program(str(OBJECTS / "record_frags.bpf.o"), QUEUES) as program:
        assert program.alive_fd < 0


def test_the_legacy_build_has_no_handle():
    with pytest.raises(UsageError, match="no dead man's handle"):
        Program(str(OBJECTS / "record_legacy.bpf.o"), QUEUES, dead_man_ms=500)
