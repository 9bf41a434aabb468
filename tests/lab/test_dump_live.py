"""`xdpcap dump -i INTERFACE`: what arrives is printed at once, and stays with the host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import forked_command
import pytest
from kernel_requirements import DRIVER_TAGS
from leftovers import attached, promiscuity
from live_dump import Looker
from patched_command import EACH_MIRROR_BUILD, MIRROR_BUILDS
from tcpdump import Tcpdump
from vlan_offload import send_skbs, tag_what_leaves, tagged

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import ethernet, ipv4, ipv6, numbered_frame, tcp, udp
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.inspect import live_source
from xdpcap.inspect.live_source import LiveSource
from xdpcap.options.dump import DumpOptions
from xdpcap.programs.program import Attached

# What is promised is 100 ms; a test machine may be busy as well.
SOON_S = 1.0


def udp_frame(port: int, size: int = 8, *, version: int = 4, vlan: int | None = None) -> bytes:
    """A UDP packet from `port`, which its line tells."""
    datagram = udp(bytes(size), port, 9, version=version)
    if version == 6:
        return ethernet(ipv6(datagram, 17), 0x86DD, vlan=vlan)
    return ethernet(ipv4(datagram, 17), 0x0800, vlan=vlan)


def ports(lines: list[str]) -> list[int]:
    """The ports that `udp_frame` was given."""
    return [int(line.split(" > ")[0].rsplit(":", 1)[1]) for line in lines]


@pytest.mark.parametrize("build", EACH_MIRROR_BUILD)
def test_every_packet_is_a_line_and_stays_with_the_host(lab, tmp_path, build):
    sent = [udp_frame(1000 + n, n % 1400) for n in range(2000)]
    with (
        Tcpdump(lab.rx_ns, "rx0", tmp_path / "host.pcap") as tcpdump,
        Looker(lab, ["-t"], env=MIRROR_BUILDS[build]) as looker,
    ):
        send_frames(lab, sent)
        lines = looker.lines(len(sent))
        seen = looker.stop()
        assert tcpdump.packets_once(len(sent), sum(map(len, sent))) == sent
    assert ports(lines) == list(range(1000, 3000))
    assert all(line.endswith(f"UDP length {n % 1400}") for n, line in enumerate(lines))
    assert (seen.returncode, seen.rest, seen.counts) == (0, [], (2000, 2000, 0))
    assert attached(lab) is None


@DRIVER_TAGS
@pytest.mark.parametrize("snaplen", [0, 20])
def test_a_tag_that_the_device_took_off_is_back_in_its_place(make_lab, tmp_path, snaplen):
    lab = make_lab(offloads=True)
    tag_what_leaves(lab, tmp_path, 100)
    frame = udp_frame(7)
    with Looker(lab, ["--json", "-xx", "-s", str(snaplen)]) as looker:
        send_skbs(lab, [frame])
        (line,) = looker.lines(1)
    told, whole = json.loads(line), tagged(frame, 100)
    assert told["data"] == whole[: snaplen or None].hex()
    assert (told["caplen"], told["origlen"]) == (snaplen or len(whole), len(whole))


@pytest.mark.parametrize("queues", [1, 2])
def test_a_single_packet_is_printed_at_once(make_lab, queues):
    lab = make_lab(queues=queues)
    with Looker(lab, ["-t"]) as looker:
        for port in range(3):
            began = time.monotonic()
            send_frames(lab, [udp_frame(port)], queues - 1)
            assert ports(looker.lines(1)) == [port]
            assert time.monotonic() - began < SOON_S
            time.sleep(0.05)


def test_a_terminal_gets_its_line_at_once_as_well(lab):
    ours, theirs = os.openpty()
    with Looker(lab, ["-t"], stdout=theirs) as looker:
        os.close(theirs)
        began = time.monotonic()
        send_frames(lab, [udp_frame(6)])
        assert ports([os.read(ours, 4096).decode().rstrip()]) == [6]
        assert time.monotonic() - began < SOON_S
        # The window is closed.
        os.close(ours)
        assert looker.stop(None).returncode == 1
    assert attached(lab) is None


def test_its_time_is_that_of_its_arrival(lab):
    with Looker(lab, ["-tt"]) as looker:
        before = time.time()
        send_frames(lab, [udp_frame(1)])
        (line,) = looker.lines(1)
        assert before - 0.001 <= float(line.split()[0]) <= time.time()


def test_count_ends_it_and_what_it_left_is_not_lost_to_the_host(lab):
    with Looker(lab, ["-t", "-c", "3"]) as looker:
        before = lab.statistics()["rx_packets"]
        send_frames(lab, [udp_frame(n) for n in range(10)])
        seen = looker.stop(None)
    assert (seen.returncode, ports(seen.rest)) == (0, [0, 1, 2])
    captured, received, dropped = seen.counts
    assert (captured, dropped) == (3, 0)
    assert 3 <= received <= 10
    assert lab.statistics()["rx_packets"] == before + 10
    assert attached(lab) is None


def test_the_filter_decides_what_is_printed_and_counted(lab):
    other = ethernet(ipv4(tcp(b"", 1, 2, sequence=0, flags=2), 6), 0x0800)
    with Looker(lab, ["-t", "udp", "and", "src port 7"]) as looker:
        send_frames(lab, [other, udp_frame(6), udp_frame(7), other, udp_frame(7, 20)] * 20)
        lines = looker.lines(40)
        seen = looker.stop(signal.SIGTERM)
    assert ports(lines) == [7] * 40
    assert (seen.returncode, seen.counts) == (0, (40, 40, 0))


def test_a_program_that_cannot_filter_leaves_it_to_who_looks(lab, monkeypatch):
    # As on a kernel that is older than its programs' filters.
    monkeypatch.setattr(live_source, "OLDEST_KERNEL", (99, 0))
    options = DumpOptions(("rx0",), "udp and src port 7").recording()
    with contextlib.closing(in_netns(lab.rx_ns, LiveSource, options, 1)) as source:
        wanted = udp_frame(7)
        send_frames(lab, [udp_frame(6), wanted, udp_frame(8)] * 20)
        found: list[bytes] = []
        for batch in source.batches():
            found += [each.data for each in batch]
            if len(found) == 20:
                break
        send_frames(lab, [udp_frame(6)])
        ledger = source.ledger(len(found))
    assert found == [wanted] * 20
    assert (ledger.written, ledger.seen) == (20, 61)
    assert ledger.filtered == source.read_count - 20


def test_the_snapshot_length_cuts_what_is_looked_at(lab):
    with Looker(lab, ["-s", "60", "--json", "-xx"]) as looker:
        frame = udp_frame(5, 500)
        send_frames(lab, [frame])
        shown = json.loads(looker.lines(1)[0])
    assert (shown["caplen"], shown["origlen"]) == (60, len(frame))
    assert bytes.fromhex(shown["data"]) == frame[:60]


def test_queues_are_printed_in_order_of_time_with_their_names(make_lab):
    lab = make_lab(queues=2)
    with Looker(lab, ["--json"]) as looker:
        for n in range(60):
            send_frames(lab, [udp_frame(n)], n % 2)
        shown = [json.loads(line) for line in looker.lines(60)]
        # And where both have a lot at the same time.
        for queue in (0, 1):
            send_frames(lab, [udp_frame(queue)] * 2000, queue)
        many = [json.loads(line) for line in looker.lines(4000)]
    assert [each["layers"][2]["source_port"] for each in shown] == list(range(60))
    assert [(each["interface"], each["queue"]) for each in shown] == [("rx0", 0), ("rx0", 1)] * 30
    times = [each["ts_ns"] for each in [*shown, *many]]
    assert times == sorted(times)
    assert {each["queue"] for each in many} == {0, 1}


def test_one_queue_of_several_is_looked_at_alone(make_lab):
    lab = make_lab(queues=2)
    with Looker(lab, ["-t", "-e", "--queues", "1"]) as looker:
        for n in range(10):
            send_frames(lab, [udp_frame(n)], n % 2)
        lines = looker.lines(5)
        seen = looker.stop()
    assert [line.startswith("rx0 q1 ") for line in lines] == [True] * 5
    assert seen.counts == (5, 5, 0)


def test_generic_mode_is_taken_where_it_is_asked_for(lab):
    with Looker(lab, ["-t", "-S"]) as looker:
        program = attached(lab)
        assert isinstance(program, Attached) and program.mode == "generic"
        send_frames(lab, [udp_frame(n, version=6, vlan=5) for n in range(10)])
        lines = looker.lines(10)
    assert ports(lines) == list(range(10))
    assert all(line.startswith("VLAN 5 IP6 ") for line in lines)


def test_promiscuous_mode_is_for_as_long_as_it_looks_and_p_leaves_it_alone(lab):
    assert promiscuity(lab) == 0
    with Looker(lab) as looker:
        assert promiscuity(lab) == 1
        looker.stop()
    assert promiscuity(lab) == 0
    with Looker(lab, ["-p"]):
        assert promiscuity(lab) == 0


def test_several_interfaces_are_looked_at_together(lab):
    for words in ("add two0 up type veth peer name two1", "set two1 up"):
        subprocess.run(["ip", "-n", lab.rx_ns, "link", *words.split()], check=True)
    with Looker(lab, ["-t", "-e", "-S"], interfaces=("two0", "rx0")) as looker:
        send_frames(lab, [udp_frame(1)])
        (line,) = looker.lines(1)
        assert line.startswith("rx0 q0 ")
        assert "two0 (generic, 1 queue), rx0 (generic, 1 queue)" in looker.stop().stderr


def test_a_namespace_is_entered_for_the_interface(lab):
    started = forked_command.start(
        ["dump", "-i", "rx0", "--netns", lab.rx_ns, "-c", "1", "-t"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started as process:
        assert "looking at rx0" in process.stderr.readline()
        send_frames(lab, [udp_frame(3)])
        output, _ = process.communicate(timeout=20)
    assert ports(output.splitlines()) == [3]


# ------------------------------------------------------------------------------ how it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_counts_also_when_nothing_came(lab, number):
    with Looker(lab) as looker:
        seen = looker.stop(number)
    assert (seen.returncode, seen.rest, seen.counts) == (0, [], (0, 0, 0))
    assert attached(lab) is None


def test_a_killed_looker_leaves_nothing(lab):
    with Looker(lab) as looker:
        assert attached(lab) is not None
        looker.process.kill()
        looker.process.wait()
        deadline = time.monotonic() + 5
        while attached(lab) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert promiscuity(lab) == 0


def test_it_ends_when_nobody_reads_without_waiting_for_a_packet(lab):
    reader, writer = os.pipe()
    head = subprocess.Popen(["head", "-1"], stdin=reader, stdout=subprocess.PIPE, text=True)
    os.close(reader)
    with Looker(lab, ["-t"], stdout=writer) as looker:
        os.close(writer)
        send_frames(lab, [udp_frame(4)])
        line, _ = head.communicate(timeout=10)
        seen = looker.stop(None)
    assert ports([line.rstrip()]) == [4]
    assert seen.returncode == 1
    assert "Error" not in seen.stderr and "Broken" not in seen.stderr
    assert attached(lab) is None


@pytest.mark.parametrize("what", ["went down", "was deleted"])
def test_an_interface_that_goes_away_ends_it_in_one_line(lab, what):
    with Looker(lab, ["-t"]) as looker:
        send_frames(lab, [udp_frame(2)])
        assert ports(looker.lines(1)) == [2]
        if what == "went down":
            lab.set_link("rx0", False)
        else:
            lab.delete_link()
        seen = looker.stop(None)
    assert seen.returncode == 1
    assert f"xdpcap: rx0 {what}; " in seen.stderr
    assert seen.counts == (1, 1, 0)


def test_what_a_stopped_looker_has_no_room_for_is_dropped_by_the_kernel(lab):
    long = numbered_frame(1514, 1)
    with Looker(lab, ["-t"]) as looker:
        send_frames(lab, [udp_frame(1)])
        looker.lines(1)
        looker.process.send_signal(signal.SIGSTOP)
        # More than RINGS_BYTES of live_source.py.
        sent = 1 + send_frames(lab, [long] * 25_000)
        looker.process.send_signal(signal.SIGCONT)
        looker.process.send_signal(signal.SIGINT)
        captured, received, dropped = looker.stop(None).counts
    assert received == sent
    assert 0 < dropped < sent
    assert captured <= received - dropped


# ------------------------------------------------------------------------------ what is refused


def refusal(lab: Lab, *arguments: str, code: int, **options) -> str:
    """The one line with which it ends, nothing attached."""
    with Looker(lab, arguments, ready=False, **options) as looker:
        seen = looker.stop(None)
    assert (seen.returncode, seen.rest) == (code, [])
    assert attached(lab) is None
    (line,) = seen.stderr.splitlines()
    assert line.startswith("xdpcap: ") and "; " in line
    return line


def test_a_device_that_runs_no_program_itself_says_so(lab):
    line = refusal(lab, "-H", code=2)
    assert "rx0: the device does not take the program to run it itself" in line


def test_an_interface_that_is_down_is_refused_with_the_command(lab):
    lab.set_link("rx0", False)
    assert "rx0 is down; `ip link set rx0 up`" in refusal(lab, code=1)


def test_a_name_that_is_nothing_is_refused(lab):
    line = refusal(lab, code=2, interfaces=("rx9",))
    assert "rx9: no such interface, file or directory" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--queues", "7"], "7"),
        (["-s", "300000"], "--snaplen 300000: must be at most 262144"),
        (["-i", "rx0"], "-i rx0: named twice"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(lab, arguments, says):
    assert says in refusal(lab, *arguments, code=2)


def test_a_filter_that_is_none_is_refused_before_anything_is_attached(lab):
    assert "filter 'tpc'" in refusal(lab, "tpc", code=2)


def test_an_interface_that_has_a_program_is_refused_with_its_name(lab, record):
    recorder = record("--json")
    with Looker(lab, ready=False) as looker:
        seen = looker.stop(None)
    assert seen.returncode == 2
    assert "rx0: an XDP program is already attached" in seen.stderr
    assert f"; stop its owner, xdpcap's process {recorder.process.pid}, or `ip link" in seen.stderr


def test_an_interface_comes_before_a_file_of_its_name(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rx0").write_bytes(b"no capture")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*forked_command.COMMAND, "dump", "-c", "1", "-t"]
    with in_netns(lab.rx_ns, subprocess.Popen, [*command, "rx0"], **options) as process:
        assert "looking at rx0" in process.stderr.readline()
        send_frames(lab, [udp_frame(8)])
        assert ports(process.communicate(timeout=20)[0].splitlines()) == [8]
    done = in_netns(lab.rx_ns, subprocess.run, [*command, "./rx0"], **options, check=False)
    assert done.returncode == 2 and "./rx0: not a capture file" in done.stderr
