"""`xdpcap bench record`: packets made in memory, the real loop, the real files; and refusals."""

from __future__ import annotations

import collections
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from option_problems import accepted, refusal_of

from xdpcap.bench import record
from xdpcap.bench.lab.frames import frame_number
from xdpcap.bench.record_report import make_bench_report
from xdpcap.bench.simulated_rings import Simulation
from xdpcap.bench.simulator import header, spread
from xdpcap.bench.stages import StageAccount
from xdpcap.cli.bench_record import bench_record_command, view
from xdpcap.errors import XdpcapError
from xdpcap.host.stage_times import StageTimes
from xdpcap.options.bench_record import (
    IMIX,
    BenchRecordOptions,
    format_sizes,
    parse_sizes,
)
from xdpcap.options.units import MIB, UnitError
from xdpcap.packets.build import checksum
from xdpcap.record.capture import STOPPED
from xdpcap.record.ledger import QueueAccount
from xdpcap.savefile.reader import read_blocks, read_packets
from xdpcap.savefile.sink import FileSink, choose_mode

# Enough for some rings, and few enough for a reader in Python.
SHORT_S = 0.02
SMALL = 2 * MIB

REAL = BenchRecordOptions(interface="rx0", output="x")
MADE = BenchRecordOptions(simulate="capture", output="x")
DISK = BenchRecordOptions(interface="rx0", simulate="disk")


def measure(directory: Path, **options: Any) -> dict[str, Any]:
    """The report of a short simulation that keeps its files."""
    wanted = {"duration_s": SHORT_S, "keep": True, "umem_size_bytes": SMALL, **options}
    options = BenchRecordOptions(simulate="capture", output=str(directory), **wanted)
    report = record.bench_record_session(options, lambda line: None)
    assert report["problems"] == []
    return report


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[FileSink]:
    """A sink with an open file, `file` under tmp_path."""
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    mode, direct_fd = choose_mode(fd)
    sink = FileSink(1 << 18, 4, mode)
    sink.open_file(fd, direct_fd)
    yield sink
    sink.close()
    os.close(fd)
    if direct_fd >= 0:
        os.close(direct_fd)


def simulate(sink: FileSink, times: StageTimes | None, seconds: float) -> tuple[Simulation, int]:
    """Run the loop in this thread; the simulation, and the CPU time it took."""
    if times is not None:
        sink.measure(times)
    packets = [(size, header(size)) for size in spread(IMIX)]
    simulation = Simulation(sink, packets, ring_size=1024)
    timer = threading.Timer(seconds, simulation.request_stop)
    timer.start()
    begun = time.thread_time_ns()
    assert simulation.run() == STOPPED
    cpu_ns = time.thread_time_ns() - begun
    timer.join()
    sink.finish_file()
    assert sink.wait(5.0)
    return simulation, cpu_ns


# --- the loop on packets from memory


@pytest.mark.parametrize("measured", [False, True])
def test_clocks_or_none_the_loop_counts_the_same(sink: FileSink, measured: bool) -> None:
    simulation, _ = simulate(sink, StageTimes() if measured else None, SHORT_S)
    written, written_bytes, dropped, disk_bytes = sink.counters
    assert simulation.made == simulation.received == written > 1000
    assert (dropped, simulation.no_meta) == (0, 0)
    rounds, rest = divmod(written, 12)
    sizes = spread(IMIX)
    expected = rounds * sum(sizes) + sum(sizes[:rest])
    assert simulation.received_bytes == written_bytes == expected
    (finished,) = sink.collect()
    assert (finished.packets, finished.size, finished.error) == (written, disk_bytes, 0)
    simulation.close()


def test_the_stages_add_up_to_the_workers_time_and_its_cpu_time(sink: FileSink) -> None:
    times = StageTimes()
    begun = time.monotonic_ns()
    simulation, cpu_ns = simulate(sink, times, 0.2)
    elapsed_ns = time.monotonic_ns() - begun
    found = times.readings
    stages = ("peek", "encode", "reap", "write", "disk", "idle", "source")
    assert all(found[name] > 0 for name in ("peek", "encode", "write", "source"))
    assert found["idle"] == found["idle_cpu"] == 0
    assert sum(found[name] for name in stages) <= elapsed_ns
    cpu = ("awake_cpu", "write_cpu", "disk_cpu", "idle_cpu", "source_cpu")
    assert sum(found[name] for name in cpu) == pytest.approx(cpu_ns, rel=0.02)
    simulation.close()


def test_a_sink_without_a_file_throws_everything_away_and_counts_it(tmp_path: Path) -> None:
    sink = FileSink(1 << 18, 2, "discard")
    sink.open_file(-1, -1, b"header")
    simulation, _ = simulate(sink, None, SHORT_S)
    written, written_bytes, dropped, disk_bytes = sink.counters
    assert written == simulation.made > 1000
    assert written_bytes == simulation.received_bytes
    assert (dropped, disk_bytes) == (0, 0)
    assert sink.mode == "discard"
    simulation.close()
    sink.close()


def test_a_round_has_each_size_as_often_as_its_weight_and_spread_out() -> None:
    order = spread(IMIX)
    assert collections.Counter(order) == dict(IMIX)
    assert order.index(1514) not in (0, 11)
    assert order[:2] != order[2:4]
    assert spread(((1514, 1),)) == [1514]


def test_the_headers_of_made_packets_are_right() -> None:
    for size in (50, 64, 594, 1514):
        ip = header(size)[14:34]
        assert checksum(ip) == 0
        assert int.from_bytes(ip[2:4]) == size - 14
        assert int.from_bytes(header(size)[38:40]) == size - 34


# --- the session


@pytest.mark.parametrize("file_format", ["pcapng", "pcap"])
def test_the_files_are_whole_and_hold_every_packet_that_is_counted(
    tmp_path: Path, file_format: str
) -> None:
    report = measure(tmp_path, format=file_format)
    (file,) = report["files"]
    packets = list(read_packets(file["path"]))
    assert len(packets) == file["packets"] == report["packets"] == report["ledger"]["written"]
    assert [frame_number(packet.data) for packet in packets] == list(range(len(packets)))
    assert [len(packet.data) for packet in packets[:12]] == spread(IMIX)
    assert all(packet.caplen == packet.origlen for packet in packets)
    assert sum(packet.caplen for packet in packets) == report["bytes"]
    assert Path(file["path"]).stat().st_size == file["bytes"]
    assert [path.name for path in tmp_path.iterdir()] == [Path(file["path"]).name]
    if file_format == "pcapng":
        last = list(read_blocks(file["path"]))[-1]
        assert last.options["isb_usrdeliv"] == len(packets)


def test_packets_longer_than_a_frame_come_in_several(tmp_path: Path) -> None:
    report = measure(tmp_path, sizes=((9000, 1), (60, 1)), frame_size=2048)
    (file,) = report["files"]
    packets = list(read_packets(file["path"]))
    assert {len(packet.data) for packet in packets[0::2]} == {9000}
    assert [frame_number(packet.data) for packet in packets] == list(range(report["packets"]))


def test_each_queue_has_a_worker_and_a_file(tmp_path: Path) -> None:
    report = measure(tmp_path, queues=(0, 3))
    assert [queue["queue"] for queue in report["queues"]] == [0, 3]
    assert sum(queue["packets"] for queue in report["queues"]) == report["packets"]
    names = sorted(Path(file["path"]).name[:12] for file in report["files"])
    assert names == ["simulated-q0", "simulated-q3"]


def test_the_report_adds_up(tmp_path: Path) -> None:
    report = measure(tmp_path, duration_s=0.3)
    stages = report["stages"]
    parts = ("peek", "encode", "submit", "kernel", "disk", "idle", "source")
    per_packet = sum(stages[f"{name}_ns"] for name in parts)
    assert per_packet * report["packets"] == pytest.approx(report["seconds"] * 1e9)
    assert stages["idle_ns"] == stages["wait_share"] == 0
    assert stages["busy_share"] + stages["disk_share"] == pytest.approx(1)
    assert report["pps"] == pytest.approx(report["packets"] / report["seconds"])
    assert report["mbps"] == pytest.approx(
        8 * (report["bytes"] + 24 * report["packets"]) / report["seconds"] / 1e6
    )
    assert report["file_bytes"] <= sum(file["bytes"] for file in report["files"])
    assert report["limit"] in ("encode", "submit", "kernel", "disk")
    assert report["why"].startswith(report["limit"]) or report["limit"] == "disk"
    assert (report["lost"], report["ledger"]["unaccounted"]) == (0, 0)


def test_nothing_stays_in_the_directory_unless_it_is_asked_for(tmp_path: Path) -> None:
    report = measure(tmp_path, keep=False)
    assert report["packets"] > 0
    assert report["files"] == []
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_nearly_full_is_refused_and_one_that_fills_up_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BenchRecordOptions(simulate="capture", output=str(tmp_path), umem_size_bytes=SMALL)
    monkeypatch.setattr(record, "_room_bytes", lambda *place: 1)
    with pytest.raises(XdpcapError, match="only 1 B free"):
        record.bench_record_session(options, lambda line: None)
    room = iter([record.ROOM_BYTES, 1])
    monkeypatch.setattr(record, "_room_bytes", lambda *place: next(room))
    told: list[str] = []
    report = record.bench_record_session(options, told.append)
    assert report["seconds"] < 2
    assert told == [f"{tmp_path} is nearly full: ended after 0.1 s"]
    assert list(tmp_path.iterdir()) == []


def row(queue: int, received: int, lost: int = 0) -> QueueAccount:
    """A queue's account in the ledger."""
    account = QueueAccount("rx0", queue, redirected=received + lost, rx_dropped=lost)
    account.received = account.written = received
    return account.settle(final=True)


@pytest.mark.parametrize(
    ("accounts", "rows", "limit", "why"),
    [
        ([StageAccount(idle=100)], [row(0, 0)], "sender", "no packet came"),
        ([StageAccount(encode=40, idle=60)], [row(0, 9)], "sender", "the worker was idle 60%"),
        ([StageAccount(encode=4, idle=96)], [row(0, 9, 5)], "sender", "5 packets were lost"),
        ([StageAccount(encode=40, disk=60)], [row(0, 9, 5)], "disk", "waited for it 60%"),
        ([StageAccount(kernel=70, peek=30)], [row(0, 9)], "kernel", "70% of the worker's time"),
        # The queue that has no time left, and not the average.
        (
            [StageAccount(idle=100), StageAccount(submit=99, idle=1)],
            [row(0, 0), row(1, 9)],
            "submit",
            "submit limits: 99% of the worker's time",
        ),
    ],
)
def test_the_limit_is_told_in_a_sentence(
    accounts: list[StageAccount], rows: list[QueueAccount], limit: str, why: str
) -> None:
    report = make_bench_report(DISK, rows, list(enumerate(accounts)), files=[], problems=[])
    assert report["limit"] == limit
    assert why in report["why"]
    assert report["lost"] == sum(row.rx_dropped for row in rows)
    assert view(report)[-1] == report["why"] + "."


# --- the command


def test_the_result_is_a_table_on_standard_output_or_an_object(tmp_path: Path) -> None:
    words = ["--simulate", "capture", "-o", str(tmp_path), "--duration", "20ms"]
    done = CliRunner().invoke(bench_record_command, words)
    assert done.exit_code == 0, done.output
    assert "encode + copy" in done.stdout
    assert " limits: " in done.stdout
    assert done.stderr == ""
    done = CliRunner().invoke(bench_record_command, [*words, "--json", "--sizes", "1514"])
    report = json.loads(done.stdout)
    assert (report["simulate"], report["sizes"]) == ("capture", "1514:1")
    assert 8 * report["packets"] * 1514 == 8 * report["bytes"]
    assert view(report)[0].startswith(f"packets from memory (1514:1): {report['seconds']:.1f} s, ")


def test_sizes_are_read_as_they_are_written() -> None:
    assert parse_sizes("64:7,594:4,1514:1") == IMIX
    assert parse_sizes("1514") == ((1514, 1),)
    assert parse_sizes(format_sizes(IMIX)) == IMIX
    for text in ("", "64:", "64:x", ":7", "64;7", "64:7,"):
        with pytest.raises(UnitError, match="write sizes as"):
            parse_sizes(text)


@pytest.mark.parametrize(
    ("good", "changes", "says"),
    [
        (REAL, {"interface": ""}, "no interface"),
        (REAL, {"interface": "a b"}, "no interface can have this name"),
        (REAL, {"output": ""}, "no output"),
        (REAL, {"output": "-"}, "standard output is the report's"),
        (REAL, {"sizes": IMIX}, "--sizes: the packets are those that arrive"),
        (REAL, {"simulate": "all"}, "--simulate 'all'"),
        (REAL, {"duration_s": 0.0}, "--duration 0"),
        (REAL, {"format": "pcapg"}, "--format"),
        (REAL, {"queues": (1, 1)}, "--queues"),
        (REAL, {"cpus": (4711,)}, "--cpus 4711"),
        (REAL, {"frame_size": 3000}, "--frame-size 3000"),
        (REAL, {"netns": ""}, "--netns"),
        (DISK, {"output": "x"}, "-o with --simulate disk"),
        (DISK, {"keep": True}, "--keep with --simulate disk"),
        (MADE, {"netns": "x"}, "--netns with --simulate capture"),
        (MADE, {"force": True}, "--force with --simulate capture"),
        (MADE, {"sizes": ((49, 1),)}, "--sizes 49"),
        (MADE, {"sizes": ((64, 0),)}, "--sizes 64:0"),
        (MADE, {"sizes": ((64, 10_001),)}, "more than 10000 packets"),
        (MADE, {"sizes": ((9000, 1),), "umem_size_bytes": MIB // 8}, "--umem-size"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(
    good: BenchRecordOptions, changes: dict[str, Any], says: str
) -> None:
    good.validate()
    assert says in refusal_of(good, **changes)


def test_the_manual_has_each_option_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench-record.md").read_text()
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `-")]
    documented = {name for row in rows for name in re.findall(r"`(-[^`]+)`", row)}
    assert documented == {name for option in bench_record_command.params for name in option.opts}


def test_the_manual_explains_each_name_of_the_result(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench-record.md").read_text()
    report = measure(tmp_path)
    for name in (*report, *report["stages"]):
        assert f"`{name}`" in text, name


def test_an_interface_may_name_simulated_packets() -> None:
    accepted(MADE, interface="rx0")
    assert replace(MADE, interface="rx0").source == "rx0"
