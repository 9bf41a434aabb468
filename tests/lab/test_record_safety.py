"""What a recording does to the host it runs on, and that all of it is undone."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from file_systems import NOBODY, directory_of_nobody, small_ext4
from kernel_objects import held_ids, still_there
from ledger_checks import Wire, check_books
from leftovers import attached, numbers_in, promiscuity
from veth_namespaces import xdp_pass

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import TX_IPV4, numbered_frame
from xdpcap.bench.lab.traffic import blast, send_frames

KINDS = ("prog", "map", "link")
FRAMES = [numbered_frame(60, number) for number in range(100)]


def ip(namespace, *arguments):
    subprocess.run(["ip", "-n", namespace, *arguments], check=True)


def the_line(result, code):
    """The only line of a command that could not begin."""
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith("xdpcap: ") and result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == b""
    assert result.files == []
    return result.stderr.removeprefix("xdpcap: ").rstrip()


# --- interfaces that the administrator needs


def test_the_interface_of_the_default_route_is_refused_unless_forced(lab, record):
    ip(lab.rx_ns, "addr", "add", "192.0.2.1/24", "dev", "rx0")
    ip(lab.rx_ns, "route", "add", "default", "via", TX_IPV4)
    line = the_line(record(ready=False).wait(), 2)
    assert line.startswith("rx0 carries the IPv4 default route, ")
    assert line.endswith("choose another interface, or --force")
    assert attached(lab) is None
    recorder = record("--json", "--force")
    send_frames(lab, FRAMES)
    assert check_books(recorder.stop())["written"] == 100


def test_the_interface_of_the_ssh_session_is_refused_unless_forced(lab, record):
    ip(lab.rx_ns, "addr", "add", "192.0.2.1/24", "dev", "rx0")
    session = {"SSH_CONNECTION": "203.0.113.9 50022 192.0.2.1 22"}
    line = the_line(record(ready=False, env=session).wait(), 2)
    assert line.startswith("rx0 has the address of this SSH session (192.0.2.1), ")
    assert line.endswith("choose another interface, or --force")
    assert attached(lab) is None
    elsewhere = {"SSH_CONNECTION": "203.0.113.9 50022 203.0.113.1 22"}
    assert record("--json", env=elsewhere).stop().returncode == 0
    assert record("--json", "--force", env=session).stop().returncode == 0


# --- promiscuous mode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_promiscuous_mode_is_on_while_recording_and_off_afterwards(lab, record, number):
    assert promiscuity(lab) == 0
    recorder = record("--json")
    assert promiscuity(lab) == 1
    recorder.stop(number)
    recorder.wait_for(lambda: promiscuity(lab) == 0)


def test_promiscuous_mode_that_another_asked_for_stays(lab, record):
    ip(lab.rx_ns, "link", "set", "rx0", "promisc", "on")
    recorder = record("--json")
    assert promiscuity(lab) == 2
    recorder.stop()
    assert promiscuity(lab) == 1


@pytest.mark.parametrize("option", ["--no-promiscuous-mode", "-p"])
def test_promiscuous_mode_is_left_alone_when_asked(lab, record, option):
    recorder = record("--json", option)
    assert promiscuity(lab) == 0
    send_frames(lab, FRAMES)
    assert check_books(recorder.stop())["written"] == 100


# --- privileges


def test_root_is_given_up_for_good_once_everything_is_set_up(lab, record, tmp_path):
    directory = directory_of_nobody(tmp_path)
    recorder = record("--json", "--user", "nobody", "--rotate-packets", "50", directory=directory)
    for task in Path(f"/proc/{recorder.process.pid}/task").iterdir():
        status = (task / "status").read_text()
        assert set(re.search(r"^Uid:\s(.*)", status, re.M)[1].split()) == {str(NOBODY.pw_uid)}
        assert set(re.search(r"^Gid:\s(.*)", status, re.M)[1].split()) == {str(NOBODY.pw_gid)}
        assert re.search(r"^CapEff:\s0+$", status, re.M)
    send_frames(lab, FRAMES)
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert check_books(result)["written"] == 100
    assert len(result.files) == 2
    assert {path.stat().st_uid for path in result.files} == {NOBODY.pw_uid}
    assert attached(lab) is None and promiscuity(lab) == 0


def test_giving_up_root_costs_no_speed_on_the_disk(lab, record, tmp_path):
    with small_ext4(tmp_path / "small", "32M") as directory:
        os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
        tmp_path.chmod(0o755)
        recorder = record("--json", "--user", "nobody", directory=directory)
        (part,) = directory.glob("*.part")
        assert len(writers_around_the_page_cache(recorder.process.pid, part)) == 1
        assert recorder.stop().returncode == 0


def writers_around_the_page_cache(pid, path):
    """The descriptors of a process that have the file open with O_DIRECT."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        text = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
        flags = re.search(r"^flags:\s+(\d+)", text, re.M)
        if os.readlink(entry) == str(path) and int(flags[1], 8) & os.O_DIRECT:
            found.append(entry.name)
    return found


def test_a_directory_that_is_not_the_users_is_refused_with_nothing_left(lab, record, tmp_path):
    directory = directory_of_nobody(tmp_path)
    os.chown(directory, 0, 0)
    line = last_line(record("--user", "nobody", directory=directory, ready=False).wait(), 2)
    assert line.startswith(f"{directory}: not writable for user id {NOBODY.pw_uid}; ")
    assert list(directory.iterdir()) == []
    assert attached(lab) is None and promiscuity(lab) == 0


def last_line(result, code):
    """The error of a command that got as far as the start-up report."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("xdpcap: ")]
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("xdpcap: ")


# --- other programs


@contextlib.contextmanager
def attached_pass(lab, mode):
    """Somebody else's program on the receiver."""
    program = xdp_pass("rx0", mode)
    in_netns(lab.rx_ns, program.__enter__)
    try:
        yield attached(lab)
    finally:
        in_netns(lab.rx_ns, program.__exit__, None, None, None)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_another_program_is_named_and_stays_where_it_is(lab, record, mode):
    with attached_pass(lab, mode) as other:
        line = the_line(record("--json", ready=False).wait(), 2)
        assert f"id {other.prog_id}, name '{other.name}', {mode}" in line
        assert "; " in line and "ip link set dev rx0 xdp" in line
        assert attached(lab) == other
        assert promiscuity(lab) == 0


def test_a_second_recording_of_an_interface_is_refused_and_the_first_goes_on(lab, record, tmp_path):
    first = record("--json")
    result = record("--json", directory=tmp_path / "second", ready=False).wait()
    assert "name 'xdpcap_record', native" in the_line(result, 2)
    send_frames(lab, FRAMES)
    assert check_books(first.stop())["written"] == 100


def test_ten_recordings_in_a_row_leave_nothing_in_the_kernel(make_lab, record):
    lab = make_lab(queues=2)
    held = {kind: set() for kind in KINDS}
    for round in range(10):
        recorder = record("--json", lab=lab)
        found = {kind: held_ids(kind, recorder.process.pid) for kind in KINDS}
        assert len(found["prog"]) == len(found["link"]) == 1 and len(found["map"]) >= 2
        for kind in KINDS:
            held[kind] |= found[kind]
        send_frames(lab, FRAMES[: round + 1], queue=round % 2)
        result = recorder.stop(signal.SIGKILL if round == 4 else signal.SIGINT)
        if round != 4:
            assert result.total["written"] == result.total["seen"] == round + 1
            assert attached(lab) is None
    for kind in KINDS:
        assert still_there(kind, held[kind]) == set()


# --- queues, modes, memory, CPUs


def test_packets_of_queues_that_are_not_recorded_are_passed_and_counted(make_lab, record):
    lab = make_lab(queues=2)
    recorder = record("--json", "--queues", "1", lab=lab)
    assert "1 of 2: packets of the others stay with the kernel" in recorder.stderr
    wire = Wire(lab)
    wire.send(FRAMES, queue=1)
    wire.send(FRAMES[:30], queue=0)
    wire.arrived()
    result = recorder.stop()
    total = check_books(result)
    (interface,) = result.report["interfaces"]
    assert [row["queue"] for row in interface["queues"]] == [1]
    assert interface["uncovered_passed"] == 30
    assert (total["seen"], total["passed"], total["written"]) == (130, 30, 100)
    assert numbers_in(result.files) == list(range(100))


@pytest.mark.parametrize("arguments", [(), ("--attach", "native")])
def test_zero_copy_that_a_driver_can_not_do_is_an_error_when_it_is_required(lab, record, arguments):
    line = the_line(record("--zero-copy", "require", *arguments, ready=False).wait(), 1)
    assert "bind(rx0 queue 0, ZEROCOPY): EOPNOTSUPP" in line
    assert line.endswith("the driver can't do this mode; try --zero-copy off")
    assert attached(lab) is None and promiscuity(lab) == 0


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_the_mode_that_is_asked_for_is_the_one_that_is_had(lab, record, mode):
    recorder = record("--json", "--attach", mode)
    assert attached(lab).mode == mode
    assert f"attach   {mode}" in recorder.stderr
    send_frames(lab, FRAMES)
    result = recorder.stop()
    assert check_books(result)["attach_mode"] == mode
    assert numbers_in(result.files) == list(range(100))


def test_busy_polling_records_what_comes(lab, record):
    recorder = record("--json", "--busy-poll")
    wire = Wire(lab)
    wire.blast(20_000)
    wire.send(FRAMES)
    arrived = wire.arrived()
    assert check_books(recorder.stop())["written"] == arrived


def test_a_machine_without_huge_pages_is_told_of_and_recorded_all_the_same(lab, record):
    free = re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())
    if free and int(free[1]):
        pytest.skip("this machine has huge pages free")
    recorder = record("--json", "--hugepages")
    assert "no huge pages free (`sysctl vm.nr_hugepages=N`)" in recorder.stderr
    send_frames(lab, FRAMES)
    assert check_books(recorder.stop())["written"] == 100


def test_workers_run_on_the_cpus_that_are_named(make_lab, record):
    lab = make_lab(queues=2)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    wanted = [cpus[-1], cpus[0]]
    recorder = record("--json", "--cpus", ",".join(map(str, wanted)), lab=lab)
    # In the order in which they were started, which is that of the queues.
    threads = sorted(
        int(task.name) for task in Path(f"/proc/{recorder.process.pid}/task").iterdir()
    )
    allowed = [os.sched_getaffinity(thread) for thread in threads]
    assert [found for found in allowed if len(found) == 1] == [{cpu} for cpu in wanted]
    blast(lab, 100)
    assert check_books(recorder.stop())["seen"] == 100
