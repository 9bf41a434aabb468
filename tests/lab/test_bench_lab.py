"""`xdpcap bench lab`: the one command of a newcomer, without a NIC."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked_command import ROOT, sanitizer


def bench_lab(*arguments):
    command = [sys.executable, "-m", "xdpcap", "bench", "lab", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **sanitizer()},
    )  # fmt: skip


def namespaces():
    return sorted(path.name for path in Path("/run/netns").glob("xdpcap-*"))


def test_every_figure_stands_beside_its_limit_and_nothing_is_left(tmp_path):
    before = namespaces()
    done = bench_lab("-o", tmp_path, "--duration", "200ms", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert found["machine"]["driver"] == "veth" and found["machine"]["cpus"] >= 2
    assert all(figure["value"] > 0 for figure in figures.values())
    for name, figure in figures.items():
        if name.startswith(("encode", "record", "replay")):
            assert figure["ratio"] > 0 and figure["limit"] in figures
        else:
            assert figure["ratio"] is None and figure["limit"] == ""
    for name in ("rx-drop, 64 bytes", "record to disk, 1514 bytes", "replay --top-speed, 64 bytes",
                 "write to disk", "memcpy, 60 bytes"):  # fmt: skip
        assert name in figures
    assert list(tmp_path.iterdir()) == []
    assert namespaces() == before


def test_a_place_that_is_not_there_is_one_line(tmp_path):
    done = bench_lab("-o", tmp_path / "nowhere")
    assert done.returncode == 2 and done.stdout == ""
    assert "no such directory" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path, number):
    before = namespaces()
    command = [sys.executable, "-m", "xdpcap", "bench", "lab", "-o", tmp_path]
    process = subprocess.Popen(
        [*command, "--duration", "5s"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, **sanitizer()},
    )  # fmt: skip
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("encode pcap, 1514") for line in lines)
    # The next figure is measured in a lab.
    while namespaces() == before:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number and said == ""
    assert namespaces() == before and list(tmp_path.iterdir()) == []
