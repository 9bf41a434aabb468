"""--prometheus: what is scraped while recording is what the final report says."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from ledger_checks import check_books
from prometheus_scrape import get, samples, value

from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.record.prometheus import PLACES

FRAMES = [numbered_frame(100, number) for number in range(300)]


@pytest.fixture
def lab(make_lab):
    """Two queues, and a loopback to listen on."""
    lab = make_lab(queues=2, generic=True)
    command = ["ip", "link", "set", "lo", "up"]
    in_netns(lab.rx_ns, subprocess.run, command, check=True)
    return lab


def scrape(lab, address: str = "127.0.0.1:9108"):
    kind, text = in_netns(lab.rx_ns, get, f"http://{address}/metrics")
    return samples(text, kind)


def test_what_is_scraped_once_traffic_has_stopped_is_what_the_report_says(lab, record):
    # The statistics' ticks are rare: a scrape does not wait for one.
    recorder = record("--json", "--prometheus", "9108", "--stats-interval", "1h")
    send_frames(lab, FRAMES, 0)
    send_frames(lab, FRAMES[:100], 1)

    def settled():
        found = scrape(lab)
        written = [
            value(found, "xdpcap_written_packets_total", interface="rx0", queue=q) for q in "01"
        ]
        return found if written == [300, 100] else None

    found = recorder.wait_for(settled)
    result = recorder.stop()
    check_books(result)
    [interface] = result.report["interfaces"]
    for row in interface["queues"]:
        labels = {"interface": "rx0", "queue": str(row["queue"])}
        assert value(found, "xdpcap_received_packets_total", **labels) == row["received"]
        assert value(found, "xdpcap_written_bytes_total", **labels) == row["bytes_written"]
        assert value(found, "xdpcap_unaccounted_packets", **labels) == row["unaccounted"] == 0
        assert value(found, "xdpcap_in_flight_packets", **labels) == 0
        for place in PLACES:
            assert value(found, "xdpcap_lost_packets_total", place=place, **labels) == row[place]
        for verdict in ("redirected", "passed", "filtered", "mirrored"):
            counted = value(found, "xdpcap_packets_total", verdict=verdict, **labels)
            assert counted == row[verdict]
        size = value(found, "xdpcap_bytes_total", verdict="redirected", **labels)
        assert size == 100 * row["redirected"]


def test_queues_that_are_not_recorded_are_counted_by_interface(lab, record):
    recorder = record("--json", "--prometheus", ":9108", "--queues", "0")
    send_frames(lab, FRAMES[:50], 1)
    found = scrape(lab)
    assert value(found, "xdpcap_uncovered_packets_total", interface="rx0") == 50
    assert check_books(recorder.stop())["passed"] == 50


def test_ipv6_is_listened_on_when_it_is_written(lab, record):
    # The lab is silent, and so without IPv6.
    switch = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    in_netns(lab.rx_ns, switch.write_text, "0")
    recorder = record("--json", "--prometheus", "[::1]:9109")
    assert ("xdpcap_start_time_seconds", ()) in scrape(lab, "[::1]:9109")
    assert recorder.stop().returncode == 0


def test_a_client_that_stays_connected_does_not_hold_the_end(lab, record):
    recorder = record("--json", "--prometheus", "9108")

    def connect():
        return socket.create_connection(("127.0.0.1", 9108))

    with in_netns(lab.rx_ns, connect):
        result = recorder.stop()
    assert result.returncode == 0 and result.seconds < 5


def test_a_port_in_use_is_told_before_anything_is_attached(lab, record):
    def listen():
        return socket.create_server(("127.0.0.1", 9108))

    with in_netns(lab.rx_ns, listen):
        result = record("--prometheus", "9108", ready=False).wait()
    assert (result.returncode, result.files, result.stdout) == (1, [], b"")
    assert result.stderr.startswith("xdpcap: --prometheus 127.0.0.1:9108: bind: EADDRINUSE")
    assert result.stderr.count("\n") == 1


def test_an_address_of_another_machine_is_told_as_such(lab, record):
    result = record("--prometheus", "192.0.2.1:9108", ready=False).wait()
    assert (result.returncode, result.files) == (1, [])
    assert "EADDRNOTAVAIL" in result.stderr and "; no address of this machine" in result.stderr


@pytest.mark.parametrize("text", ["127.0.0.1", "host:9108", "[::1]", "70000"])
def test_an_address_that_is_none_is_one_line_with_exit_code_2(lab, record, text):
    result = record("--prometheus", text, ready=False).wait()
    assert (result.returncode, result.files) == (2, [])
    assert result.stderr.startswith("xdpcap: --prometheus: ") and result.stderr.count("\n") == 1
