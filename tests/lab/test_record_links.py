"""Links that go down, are deleted, come back or change their name while they are recorded."""

from __future__ import annotations

import re
import subprocess

from ledger_checks import check_books
from leftovers import attached, error_lines, load_on, numbers_in
from veth_namespaces import add_veth, delete_link

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames


def test_an_interface_that_goes_down_ends_the_recording_with_whole_files(lab, record):
    recorder = record("--json")
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    lab.set_link("rx0", False)
    result = recorder.wait()
    assert result.returncode == 1
    assert error_lines(result) == [
        "xdpcap: rx0 went down while recording; the files so far are complete, "
        "--wait-link waits for it"
    ]
    assert check_books(result)["written"] == 100
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert attached(lab) is None


def test_an_interface_that_is_deleted_ends_the_recording_with_whole_files(lab, record):
    recorder = record("--json", "--busy-poll")
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    lab.delete_link()
    result = recorder.wait()
    assert result.returncode == 1
    assert error_lines(result) == [
        "xdpcap: rx0 was deleted while recording; the files so far are complete, "
        "--wait-link waits for it"
    ]
    assert check_books(result)["written"] == 100
    assert [path.suffix for path in result.files] == [".pcapng"]


def test_an_interface_under_another_name_is_still_the_one_that_is_recorded(lab, record):
    recorder = record("--json")
    subprocess.run(["ip", "-n", lab.rx_ns, "link", "set", "rx0", "name", "rx9"], check=True)
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    subprocess.run(["ip", "-n", lab.rx_ns, "link", "delete", "rx9"], check=True)
    result = recorder.wait()
    assert result.returncode == 1
    assert [line.split(" while")[0] for line in error_lines(result)] == ["xdpcap: rx0 was deleted"]
    assert check_books(result)["written"] == 100


def test_an_interface_that_is_deleted_under_load_loses_count_of_nothing(lab, record):
    recorder = record("--json", "--ring-size", "1024", "--umem-size", "2MiB")
    load = load_on(lab)
    try:
        recorder.wait_for(lambda: lab.statistics()["rx_packets"] > 100_000)
        lab.delete_link()
        result = recorder.wait()
    finally:
        load.kill()
        load.wait()
    assert result.returncode == 1
    assert check_books(result)["written"] > 0


def test_recording_goes_on_when_the_interface_comes_up_again(lab, record):
    recorder = record("--json", "--wait-link")
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    lab.set_link("rx0", False)
    recorder.wait_for(lambda: "rx0 went down; waiting" in recorder.stderr)
    # The file so far is complete while the link is away.
    recorder.wait_for(lambda: list(recorder.directory.glob("*-000001.pcapng")))
    lab.set_link("rx0", True)
    recorder.wait_for(lambda: "rx0 is back after" in recorder.stderr)
    send_frames(lab, [numbered_frame(60, number) for number in range(100, 150)])
    result = recorder.stop()
    assert result.returncode == 0
    assert check_books(result)["written"] == 150
    assert numbers_in(result.files) == list(range(150))


def wait_told(recorder, text, times):
    """Return once standard error has the text so many times."""
    recorder.wait_for(lambda: recorder.stderr.count(text) == times)


def test_recording_goes_on_when_the_interface_is_made_again(lab, record):
    recorder = record("--json", "--wait-link", "--stats-interval", "100ms")
    for again in range(3):
        if again:
            lab.delete_link()
            wait_told(recorder, "rx0 was deleted; waiting", again)
            lab.make_link()
            wait_told(recorder, "rx0 is back after", again)
        send_frames(lab, [numbered_frame(60, 100 * again + number) for number in range(100)])
    result = recorder.stop()
    assert result.returncode == 0, result.stderr
    assert check_books(result)["written"] == 300
    assert sorted(numbers_in(result.files)) == list(range(300))
    # One row for the queue, whatever became of its interface in between.
    assert len(result.report["interfaces"]) == len(result.report["interfaces"][0]["queues"]) == 1
    counts = [int(n) for n in re.findall(r"s rx0: (\d+) packets", result.stderr)]
    assert counts == sorted(counts)


def test_one_of_two_interfaces_that_goes_takes_the_other_one_down_whole(make_lab, record):
    lab = make_lab()
    in_netns(lab.rx_ns, add_veth, "other", "other-peer")
    recorder = record("--json", lab=lab, interfaces=["rx0", "other"])
    send_frames(lab, [numbered_frame(60, number) for number in range(100)])
    in_netns(lab.rx_ns, delete_link, "other")
    result = recorder.wait()
    assert result.returncode == 1
    assert len(error_lines(result)) == 1
    total = check_books(result)
    assert total["written"] >= 100
    assert {path.suffix for path in result.files} == {".pcapng"}
    assert attached(lab) is None
