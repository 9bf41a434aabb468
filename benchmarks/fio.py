"""The write rate of the file system: fio, writing like the recorder.

One file written sequentially in blocks of 1 MiB, without fsync.  On a disk io_uring, O_DIRECT
and depth 8; in memory pwrite(), which never waits.  The file grows as it is written, as the
recorder does not preallocate either.
"""

from __future__ import annotations

import json
import os
import subprocess

from benchmarks import machine
from benchmarks.measure import Sample, Task
from benchmarks.memory import touch
from benchmarks.recorders import BenchmarkError
from benchmarks.scratch import scratch

NAME = "fio"
BLOCK_BYTES = 1 << 20
DISK_ENGINE = ["--ioengine=io_uring", "--direct=1", "--iodepth=8"]


def measure_fio(task: Task) -> Sample:
    """Write as many bytes as a recording of the scenario; `kept` and `sent` are 0."""
    scenario = task.scenario
    size = -(-scenario.file_bytes // BLOCK_BYTES) * BLOCK_BYTES
    with scratch(scenario.directory) as directory:
        argv = [
            *("fio", "--name=record", f"--filename={directory / 'file'}"),
            *(["--ioengine=psync"] if scenario.memory else DISK_ENGINE),
            *(f"--bs={BLOCK_BYTES}", "--rw=write", f"--size={size}", "--fallocate=none"),
            *("--end_fsync=0", "--output-format=json", f"--cpus_allowed={task.cpus.recorder}"),
        ]
        os.sync()
        touch(scenario.memory_directory, scenario.file_bytes)
        before = machine.snapshot()
        out = subprocess.run(argv, capture_output=True, text=True, check=False)
        after = machine.snapshot()
    if out.returncode != 0:
        raise BenchmarkError(f"fio ended with {out.returncode}: {out.stderr.strip()[-200:]}")
    # fio may print notes before the object.
    report = json.loads(out.stdout[out.stdout.index("{") :])
    written = report["jobs"][0]["write"]
    return Sample(
        row=NAME,
        round=task.round,
        sent=0,
        arrived=0,
        kept=0,
        send_s=written["io_bytes"] / written["bw_bytes"],
        file_bytes=written["io_bytes"],
        recorder_cpu_s=0.0,
        life_cpu_s=0.0,
        machine=machine.activity(before, after, (os.getpid(),)),
    )
