"""The metrics: every figure of the ledger, in formats that Prometheus reads."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_scrape import OPENMETRICS, get, samples, value

from xdpcap.errors import KernelError
from xdpcap.options.listen_address import ListenAddress, parse_listen
from xdpcap.record.ledger import QueueAccount
from xdpcap.record.prometheus import ANSWER_S, PLACES, Exporter

DOCS = Path(__file__).parents[2] / "docs"
ROW = QueueAccount(
    "eth1",
    3,
    zero_copy=True,
    attach_mode="native",
    redirected=1000,
    redirected_bytes=64000,
    passed=7,
    passed_bytes=420,
    received=990,
    bytes_received=63360,
    written=980,
    bytes_written=62720,
    bytes_to_disk=99999,
    rx_dropped=5,
    rx_ring_full=4,
    write_dropped=3,
    fill_ring_empty=2,
    beyond_limit=1,
    device_stamped=970,
    in_flight=9,
    files=6,
    ring_fill=128,
    ring_size=32768,
    missed=11,
)


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as asking:
        asking.bind((host, 0))
        return asking.getsockname()[1]


@pytest.fixture
def exporter() -> Iterator[tuple[Exporter, str]]:
    """An exporter whose main thread answers each time with ROW, and its URL."""
    address = ListenAddress("127.0.0.1", free_port())
    made = Exporter(address)
    made.serve(lambda: made.publish([ROW], {"eth1": 13}))
    yield made, f"http://{address}/metrics"
    made.close()


def scraped(url: str) -> dict:
    kind, text = get(url)
    return samples(text, kind)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9108", "127.0.0.1", 9108),
        (":9108", "127.0.0.1", 9108),
        ("localhost:1", "127.0.0.1", 1),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("[::1]:9108", "::1", 9108),
        ("[::]:9108", "::", 9108),
    ],
)
def test_an_address_is_read_and_a_port_alone_means_this_machine(text, host, port):
    assert parse_listen(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no port"),
        ("0", "no port"),
        ("65536", "no port"),
        ("127.0.0.1", "no port"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:http", "no port"),
        ("127.0.0.1:-1", "no port"),
        ("example.org:9108", "no IP address"),
        ("300.0.0.1:9108", "no IP address"),
        ("::1:9108", "in brackets"),
        ("[127.0.0.1]:9108", "in brackets"),
    ],
)
def test_an_address_that_is_none_is_refused_with_the_way_out(text, says):
    with pytest.raises(ValueError, match=says):
        parse_listen(text)


def test_every_figure_of_a_row_is_exported(exporter):
    found = scraped(exporter[1])
    labels = {"interface": "eth1", "queue": "3"}
    for name, expected in {
        "xdpcap_received_packets_total": 990,
        "xdpcap_received_bytes_total": 63360,
        "xdpcap_written_packets_total": 980,
        "xdpcap_written_bytes_total": 62720,
        "xdpcap_file_bytes_total": 99999,
        "xdpcap_files_total": 6,
        "xdpcap_beyond_limit_packets_total": 1,
        "xdpcap_device_stamped_packets_total": 970,
        "xdpcap_fill_ring_empty_total": 2,
        "xdpcap_in_flight_packets": 9,
        "xdpcap_unaccounted_packets": 0,
        "xdpcap_ring_fill_descriptors": 128,
        "xdpcap_ring_size_descriptors": 32768,
    }.items():
        assert value(found, name, **labels) == expected, name
    for verdict, packets, size in (("redirected", 1000, 64000), ("passed", 7, 420)):
        assert value(found, "xdpcap_packets_total", verdict=verdict, **labels) == packets
        assert value(found, "xdpcap_bytes_total", verdict=verdict, **labels) == size
    lost = [value(found, "xdpcap_lost_packets_total", place=p, **labels) for p in PLACES]
    assert lost == [5, 4, 0, 3]
    how = {"attach_mode": "native", "zero_copy": "true"}
    assert value(found, "xdpcap_queue_info", **how, **labels) == 1
    assert value(found, "xdpcap_missed_packets_total", interface="eth1") == 11
    assert value(found, "xdpcap_uncovered_packets_total", interface="eth1") == 13


@pytest.mark.parametrize(
    ("accept", "kind"),
    [(OPENMETRICS, "application/openmetrics-text"), ("text/plain", "text/plain")],
)
def test_the_scraper_chooses_the_format(exporter, accept, kind):
    content_type, text = get(exporter[1], accept)
    assert content_type.startswith(kind)
    assert text.endswith("# EOF\n") == (kind != "text/plain")
    labels = {"interface": "eth1", "queue": "3"}
    assert value(samples(text, content_type), "xdpcap_written_packets_total", **labels) == 980


def test_each_metric_of_the_dashboard_and_of_the_manual_is_exported_and_each_is_in_the_manual(
    exporter,
):
    exported = {name for name, _ in scraped(exporter[1])}
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    targets = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries = [str(v["query"]) for v in board["templating"]["list"]]
    shown = set(re.findall(r"xdpcap_\w+", " ".join(targets + queries)))
    assert len(shown) > 8 and shown <= exported
    told = set(re.findall(r"`(xdpcap_\w+)`", (DOCS / "stats.md").read_text()))
    assert told == exported


def test_the_dashboard_is_one_that_grafana_imports():
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    assert board["schemaVersion"] >= 36 and board["title"] and board["uid"]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    # 24 columns, and no panel over another.
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(panels)))
    assert used <= variables


def test_a_main_thread_that_does_not_answer_leaves_the_last_rows_and_their_time():
    address = ListenAddress("127.0.0.1", free_port())
    exporter = Exporter(address)
    try:
        exporter.publish([ROW], {})
        exporter.serve(lambda: None)
        time.sleep(0.2)
        began = time.monotonic()
        found = scraped(f"http://{address}/")
        assert ANSWER_S <= time.monotonic() - began < ANSWER_S + 5
        assert exporter.asked
        assert found["xdpcap_ledger_time_seconds", ()] < time.time() - ANSWER_S
        labels = {"interface": "eth1", "queue": "3"}
        assert value(found, "xdpcap_written_packets_total", **labels) == 980
    finally:
        exporter.close()


def test_rows_that_are_fresh_are_served_without_asking():
    address = ListenAddress("127.0.0.1", free_port())
    asked = []
    exporter = Exporter(address)
    try:
        exporter.serve(lambda: (asked.append(1), exporter.publish([ROW], {})))
        began = time.monotonic()
        scrapes = 0
        while time.monotonic() - began < 0.5:
            scraped(f"http://{address}/")
            scrapes += 1
        assert len(asked) <= 6 and scrapes > len(asked)
    finally:
        exporter.close()


def test_a_port_in_use_is_one_line_and_the_second_close_does_nothing():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = ListenAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(KernelError, match=r"EADDRINUSE.*; .*choose another port") as caught:
            Exporter(address)
        assert "\n" not in str(caught.value) and f"--prometheus {address}" in str(caught.value)
    made = Exporter(address)
    made.close()
    made.close()


def test_a_client_that_says_nothing_holds_neither_others_nor_the_end(exporter):
    made, url = exporter
    host, port = re.search(r"//(.+):(\d+)/", url).groups()
    with socket.create_connection((host, int(port))):
        scraped(url)
        ended = threading.Event()
        threading.Thread(target=lambda: (made.close(), ended.set()), daemon=True).start()
        assert ended.wait(5)
