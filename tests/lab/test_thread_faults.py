"""An exception in any thread of a recording, a replay or a measurement: one line, exit code 1.

The true counts are reported, what was recorded is in the files, and nothing stays attached.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from typing import Any

import forked_command
import pytest
from capture_files import contents
from ledger_checks import Wire, check_books
from leftovers import attached, load_on
from patched_command import patched
from replayer import Replay, pcap_file

from xdpcap.bench import lab_run
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.bench.lab.traffic import send_frames
from xdpcap.errors import XdpcapError

FRAMES = [numbered_frame(60, number) for number in range(1000)]
SLOW = ["--pps", "2000", "--stats-interval", "0.1s"]

# Raises `error` at the call number `after` of a method.
FAULT = """
import itertools
from {module} import {owner}

def _faulty(real=getattr({owner}, {method!r}), calls=itertools.count(1)):
    def method(self, *args, **kwargs):
        if next(calls) >= {after}:
            raise {error}
        return real(self, *args, **kwargs)
    return method

{owner}.{method} = _faulty()
"""


def fault(owner: str, method: str, error: str, after: int = 1) -> dict[str, str]:
    """An environment in which a method raises; `owner` is dotted."""
    module, _, name = owner.rpartition(".")
    code = FAULT.format(module=module, owner=name, method=method, error=error, after=after)
    return patched(code)


# Raises at each call of several methods, which stand below `bad`.
ALWAYS = """
def bad(self, *args, **kwargs):
    raise KeyError("x")
"""

# A thread that does what it is to do, and then does not end.
HANGS = """
import time
from {module} import {owner}

def _hanging(real={owner}.{method}):
    def method(self, *args, **kwargs):
        real(self, *args, **kwargs)
        time.sleep(60)
    return method

{owner}.{method} = _hanging()
"""


def hang(owner: str, method: str) -> dict[str, str]:
    """An environment in which a method returns a minute late; `owner` is dotted."""
    module, _, name = owner.rpartition(".")
    return patched(HANGS.format(module=module, owner=name, method=method))


def failures(result: Any) -> list[str]:
    """The lines of standard error that are not part of a recording's or replay's progress."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("xdpcap: ")]
    return [line for line in lines if "Ctrl-C stops" not in line]


# --- replay


@pytest.mark.parametrize("error", ["KeyError('x')", "MemoryError()", "KeyboardInterrupt()"])
def test_an_exception_in_the_main_thread_while_senders_send_stops_them_first(lab, tmp_path, error):
    """The rings are unmapped once nobody uses them: no segmentation fault."""
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = fault("xdpcap.replay.session.ReplaySession", "_progress", error, after=2)
    sent = Replay(lab, [file, *SLOW, "--loop", "0"], env=env).wait()
    assert sent.returncode in (1, 130), sent.stderr
    assert "Traceback" not in sent.stderr
    assert attached(lab) is None


@pytest.mark.parametrize("error", ["MemoryError()", "KeyError('x')", "SystemExit(0)"])
def test_an_exception_in_a_sender_is_told_and_what_it_sent_is_counted(lab, record, tmp_path, error):
    """The second pass fails: the packets of the first are out, and counted."""
    recorder = record("--json")
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = patched(
        "from xdpcap.replay import sender\n"
        "class Transmitter(sender.Transmitter):\n"
        f"    def rewind(self):\n        raise {error}\n"
        "sender.Transmitter = Transmitter\n"
    )
    sent = Replay(lab, [file, "--pps", "20000", "--loop", "3"], env=env).wait()
    assert sent.returncode == 1
    assert sent.report["sent"] == len(FRAMES)
    [line] = failures(sent)
    assert line.startswith("xdpcap: tx0 queue 0: ")
    assert contents(recorder.stop().files) == FRAMES


@pytest.mark.parametrize("error", ["MemoryError()", "KeyError('x')", "OSError(5, 'I/O')"])
@pytest.mark.parametrize("method", ["_read_ahead", "_batch", "_portions"])
def test_an_exception_in_the_reader_ends_the_replay(lab, tmp_path, method, error):
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = fault("xdpcap.replay.batches.BatchSource", method, error)
    sent = Replay(lab, [file, "--top-speed", "--no-preload"], env=env).wait(20)
    assert sent.returncode == 1
    assert len(failures(sent)) == 1, sent.stderr


@pytest.mark.parametrize("method", ["_read_ahead", "_portions"])
def test_a_reader_that_asks_for_exit_code_0_fails_all_the_same(lab, tmp_path, method):
    """Its failure is raised again in the main thread, where a SystemExit would end the command."""
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = fault("xdpcap.replay.batches.BatchSource", method, "SystemExit(0)")
    sent = Replay(lab, [file, "--top-speed", "--no-preload"], env=env).wait(20)
    assert sent.returncode == 1
    [line] = failures(sent)
    assert line.startswith("xdpcap: SystemExit at sitecustomize.py:")


def test_an_exception_in_the_reader_after_the_first_batch_keeps_the_count(lab, record, tmp_path):
    recorder = record("--json")
    frames = [numbered_frame(1500, number) for number in range(12_000)]  # three batches
    file = pcap_file(tmp_path / "in.pcap", frames)
    env = fault("xdpcap.replay.batches.BatchSource", "_batch", "MemoryError()", after=2)
    sent = Replay(lab, [file, "--pps", "20000", "--no-preload"], env=env).wait(20)
    assert sent.returncode == 1
    [line] = failures(sent)
    assert line.startswith("xdpcap: out of memory; ")  # and no advice that was followed already
    arrived = contents(recorder.stop().files)
    assert arrived == frames[: len(arrived)]
    assert 0 < len(arrived) == sent.report["sent"] < len(frames)


def test_an_exception_in_the_feeder_ends_the_replay_with_the_true_count(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = fault("xdpcap.replay.session.ReplaySession", "_put", "KeyError('x')")
    sent = Replay(lab, [file, "--top-speed"], env=env).wait(20)
    assert sent.returncode == 1
    assert sent.report["sent"] == 0
    [line] = failures(sent)
    assert line.startswith("xdpcap: KeyError at sitecustomize.py:")


@pytest.mark.parametrize(
    ("method", "when"),
    # The main thread calls end_input() again.
    [("put", ">= 1"), ("put", ">= 2"), ("end_input", "== 1"), ("end_input", "== 2")],
)
def test_a_feeder_that_fails_in_any_step_leaves_no_sender_waiting(make_lab, tmp_path, method, when):
    """Two senders, of which the feeder reaches one or none."""
    lab = make_lab(queues=2)
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = patched(
        "import itertools\n"
        "from xdpcap.replay.sender import Sender\n"
        f"_real, _calls = Sender.{method}, itertools.count(1)\n"
        "def method(self, *args):\n"
        f"    if next(_calls) {when}:\n"
        "        raise MemoryError\n"
        "    return _real(self, *args)\n"
        f"Sender.{method} = method\n"
    )
    sent = Replay(lab, [file, "--top-speed", "--queues", "0,1"], env=env).wait(20)
    assert sent.returncode == 1
    assert len(failures(sent)) == 1, sent.stderr
    assert sent.report["sent"] == lab.statistics()["tx_packets"]


def test_a_sender_that_hangs_ends_the_process_before_its_rings_are_unmapped(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = hang("xdpcap.replay.sender.Sender", "_judge")
    before = lab.statistics()["rx_packets"]
    replay = Replay(lab, [file, "--top-speed"], env=env)
    # Python's own start and the handlers are behind it once packets arrive.
    deadline = time.monotonic() + 30
    while lab.statistics()["rx_packets"] - before < len(FRAMES):
        assert replay.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    sent = replay.stop(timeout_s=20)
    assert sent.returncode == 1
    assert failures(sent) == ["xdpcap: thread tx0-tx0 does not stop"]
    assert sent.report["sent"] == len(FRAMES)


def test_a_sender_that_hangs_while_the_main_thread_fails_ends_the_process(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = patched(
        HANGS.format(module="xdpcap.replay.sender", owner="Sender", method="_judge")
        + ALWAYS
        + "from xdpcap.replay.session import ReplaySession\nReplaySession._progress = bad\n"
    )
    sent = Replay(lab, [file, *SLOW], env=env).wait(20)
    assert sent.returncode == 1
    assert failures(sent) == ["xdpcap: thread tx0-tx0 does not end"]


def test_a_sender_that_can_not_be_started_ends_the_replay(make_lab, tmp_path):
    lab = make_lab(queues=3)
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    sent = Replay(
        lab, [file, "--top-speed", "--queues", "0-2"], env=no_thread_named("tx0-tx2")
    ).wait(20)
    assert sent.returncode == 1
    [line] = failures(sent)
    assert line.startswith("xdpcap: thread tx0-tx2 can't be started (no more)")


def test_a_verified_replay_whose_recorder_can_not_be_heard_ends(lab, tmp_path):
    file = pcap_file(tmp_path / "in.pcap", FRAMES)
    env = fault("xdpcap.record.process.RecordingProcess", "_listen", "KeyError('x')")
    target = f"{lab.rx_ns}:rx0"
    sent = Replay(lab, [file, "--top-speed", "--verify", target], env=env).wait(20)
    assert sent.returncode == 1
    [line] = failures(sent)
    assert line.startswith(f"xdpcap: --verify {target}: its messages can't be read: KeyError at ")
    assert attached(lab) is None


def no_thread_named(name: str) -> dict[str, str]:
    """An environment in which the system gives no thread of this name."""
    return patched(
        "import threading\n"
        "_start = threading.Thread.start\n"
        "def start(self):\n"
        f"    if self.name == {name!r}:\n"
        "        raise RuntimeError('no more')\n"
        "    _start(self)\n"
        "threading.Thread.start = start\n"
    )


# --- record


@pytest.mark.parametrize("error", ["MemoryError()", "KeyError('x')", "SystemExit(0)"])
def test_an_exception_in_a_worker_ends_the_recording_with_its_packets(lab, record, error):
    env = fault("xdpcap.record.worker.Worker", "_rotate", error)
    recorder = record("--json", "--rotate-packets", "10", env=env)
    send_frames(lab, FRAMES[:25])
    result = recorder.wait()
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: rx0: ")
    total = check_books(result)
    assert total["written"] + total["write_dropped"] == total["received"]
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert len(contents(result.files)) == total["written"] >= 10
    assert attached(lab) is None


def test_the_traceback_of_a_worker_is_shown_where_it_is_asked_for(lab, record):
    env = fault("xdpcap.record.worker.Worker", "_rotate", "KeyError('x')")
    recorder = record("--json", "--rotate-packets", "10", env={**env, "XDPCAP_DEBUG": "1"})
    send_frames(lab, FRAMES[:25])
    result = recorder.wait()
    assert result.returncode == 1
    assert result.stderr.count("Traceback") == 1
    assert "in _record" in result.stderr
    assert len(failures(result)) == 1


@pytest.mark.parametrize("mode", [[], ["--mirror"]], ids=["redirect", "mirror"])
def test_what_comes_after_a_worker_has_failed_is_counted_as_write_dropped(lab, record, mode):
    """The session detaches half a second later, under full load."""
    env = patched(
        ALWAYS + "import time\n"
        "from xdpcap.record.interface import InterfaceRecorder\n"
        "from xdpcap.record.worker import Worker\n"
        "_detach = InterfaceRecorder.detach\n"
        "def detach(self):\n"
        "    time.sleep(0.5)\n"
        "    _detach(self)\n"
        "InterfaceRecorder.detach, Worker._rotate = detach, bad\n"
    )
    recorder = record("--json", "--rotate-packets", "5000", *mode, env=env)
    load = load_on(lab)
    try:
        result = recorder.wait()
    finally:
        load.kill()
        load.wait()
    assert result.returncode == 1
    assert len(failures(result)) == 1, result.stderr
    total = check_books(result)
    assert total["written"] >= 5000 and total["write_dropped"] > 0
    assert attached(lab) is None


@pytest.mark.parametrize("rotation", [["--rotate-packets", "10"], []], ids=["rotation", "end"])
def test_a_file_whose_statistics_fail_has_all_its_packets(lab, record, rotation):
    env = fault("xdpcap.record.file_chain.FileChain", "_statistics", "KeyError('x')")
    recorder = record("--json", *rotation, env=env)
    wire = Wire(lab)
    wire.send(FRAMES[:25])
    wire.arrived()
    result = recorder.wait() if rotation else recorder.stop()
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: rx0: KeyError at sitecustomize.py:")
    total = check_books(result)
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert contents(result.files) == FRAMES[: total["written"]]
    assert total["written"] == (10 if rotation else 25)


def test_a_next_file_that_can_not_be_begun_leaves_no_empty_one(lab, record):
    env = patched(
        "import itertools\n"
        "from xdpcap.record import file_chain\n"
        "_choose_mode, _calls = file_chain.choose_mode, itertools.count(1)\n"
        "def choose_mode(*args, **kwargs):\n"
        "    if next(_calls) == 2:\n"
        "        raise MemoryError\n"
        "    return _choose_mode(*args, **kwargs)\n"
        "file_chain.choose_mode = choose_mode\n"
    )
    recorder = record("--json", "--rotate-packets", "10", env=env)
    send_frames(lab, FRAMES[:25])
    result = recorder.wait()
    assert result.returncode == 1
    assert len(failures(result)) == 1, result.stderr
    assert check_books(result)["written"] == 10
    assert [path.suffix for path in result.files] == [".pcapng"]


def test_a_detach_that_fails_while_unwinding_stops_the_workers_all_the_same(lab, record):
    """Under load, or a worker would not notice that its rings are gone."""
    env = patched(
        ALWAYS + "from xdpcap.record.interface import InterfaceRecorder\n"
        "from xdpcap.record.session import Session\n"
        "InterfaceRecorder.detach = Session._watch_links = bad\n"
    )
    recorder = record("--json", ready=False, env=env)
    load = load_on(lab)
    try:
        result = recorder.wait()
    finally:
        load.kill()
        load.wait()
    assert result.returncode == 1
    assert [line.split(" at ")[0] for line in failures(result)] == ["xdpcap: KeyError"] * 2
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert attached(lab) is None


def test_a_worker_that_can_not_be_asked_to_stop_ends_the_process(make_lab, record):
    """The first of two: the second is stopped, and no ring is unmapped under the first."""
    lab = make_lab(queues=2)
    env = patched(
        "from xdpcap.record.worker import Worker\n"
        "_request_stop = Worker.request_stop\n"
        "def request_stop(self):\n"
        "    if self.queue == 0:\n"
        "        raise KeyError('x')\n"
        "    _request_stop(self)\n"
        "Worker.request_stop = request_stop\n"
    )
    recorder = record("--json", lab=lab, env=env)
    result = recorder.stop(timeout_s=20)
    assert result.returncode == 1
    hung, cause = failures(result)
    assert hung == "xdpcap: rx0: queue 0 does not stop; is the disk stuck?"
    assert cause.startswith("xdpcap: rx0: KeyError at sitecustomize.py:")
    # Queue 1's file is complete, and the other readable.
    assert sorted(path.suffix for path in result.files) == [".part", ".pcapng"]
    assert attached(lab) is None


@pytest.mark.parametrize("main_thread_fails", [False, True])
def test_a_worker_that_hangs_ends_the_process_before_its_rings_are_unmapped(
    lab, record, main_thread_fails
):
    code = HANGS.format(module="xdpcap.record.worker", owner="Worker", method="_finish")
    if main_thread_fails:
        code += ALWAYS + "from xdpcap.record.session import Session\nSession._watch_links = bad\n"
    recorder = record("--json", ready=False, env=patched(code))
    if not main_thread_fails:
        recorder.wait_ready()
        recorder.send_signal(signal.SIGINT)
    result = recorder.stop(None, timeout_s=20)
    assert result.returncode == 1
    assert failures(result) == ["xdpcap: rx0: queue 0 does not stop; is the disk stuck?"]
    assert attached(lab) is None


@pytest.mark.parametrize("error", ["KeyError('x')", "MemoryError()"])
def test_an_exception_in_the_main_thread_stops_the_workers_first(lab, record, error):
    env = fault("xdpcap.record.session.Session", "_watch_links", error, after=3)
    recorder = record("--json", "--stats-interval", "0.1s", env=env)
    wire = Wire(lab)
    wire.blast(50_000)
    result = recorder.wait()
    assert result.returncode == 1
    assert len(failures(result)) == 1, result.stderr
    assert [path.suffix for path in result.files] == [".pcapng"]
    assert attached(lab) is None


@pytest.mark.parametrize("error", ["KeyError('x')", "MemoryError()", "SystemExit(0)"])
def test_an_exception_in_the_closer_is_told_and_the_files_behind_it_are_completed(
    lab, record, error
):
    # The second file; then the real thing again.
    env = patched(
        "import itertools\n"
        "from xdpcap.savefile.directory import Directory\n"
        "_complete, _calls = Directory.complete, itertools.count(1)\n"
        "def complete(self, *args):\n"
        "    if next(_calls) == 2:\n"
        f"        raise {error}\n"
        "    return _complete(self, *args)\n"
        "Directory.complete = complete\n"
    )
    recorder = record("--json", "--rotate-packets", "10", env=env)
    send_frames(lab, FRAMES[:40])
    recorder.wait_for(lambda: len(list(recorder.directory.iterdir())) >= 4)
    result = recorder.stop()
    assert result.returncode == 1
    [line] = failures(result)
    [part] = [path for path in result.files if path.suffix == ".part"]
    assert line.startswith(f"xdpcap: {part} is left as it is: ")
    assert "-000002." in part.name
    assert contents(result.files) == FRAMES[:40]


def test_an_exception_in_the_closer_is_told_when_the_main_thread_has_failed_too(lab, record):
    env = patched(
        ALWAYS + "from xdpcap.record.session import Session\n"
        "from xdpcap.savefile.directory import Directory\n"
        "Directory.complete = Session._watch_links = bad\n"
    )
    result = record("--json", ready=False, env=env).wait()
    assert result.returncode == 1
    closer, main = failures(result)
    [part] = result.files
    assert closer.startswith(f"xdpcap: {part} is left as it is: KeyError at ")
    assert main.startswith("xdpcap: KeyError at ")


def test_a_worker_that_can_not_be_started_leaves_no_empty_file(make_lab, record):
    lab = make_lab(queues=3)
    recorder = record("--json", lab=lab, ready=False, env=no_thread_named("rx0-q2"))
    result = recorder.wait()
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: thread rx0-q2 can't be started (no more)")
    assert not [path for path in result.files if path.suffix == ".part"]
    assert attached(lab) is None


def test_an_exception_in_the_post_rotate_thread_is_told(lab, record):
    env = fault("xdpcap.savefile.post_rotate.PostRotate", "_call", "KeyError('x')")
    recorder = record("--json", "--post-rotate", "true", env=env)
    send_frames(lab, FRAMES[:5])
    result = recorder.stop()
    assert re.search(r"post-rotate: on .*: KeyError at ", result.stderr)
    assert contents(result.files) == FRAMES[:5]


def test_an_exporter_that_can_not_be_started_ends_the_recording(lab, record):
    recorder = record(
        "--json", "--prometheus", "9108", ready=False, env=no_thread_named("prometheus")
    )
    result = recorder.stop(None, timeout_s=10)
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: thread prometheus can't be started (no more)")
    assert attached(lab) is None


def test_an_exception_in_the_exporter_is_told_at_once_and_the_recording_goes_on(lab, record):
    env = fault("xdpcap.record.prometheus._Server", "service_actions", "KeyError('x')")
    recorder = record("--json", "--prometheus", "9108", env=env)
    recorder.wait_for(lambda: "nothing is served any more" in recorder.stderr)
    send_frames(lab, FRAMES[:25])
    result = recorder.stop()
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: --prometheus: nothing is served any more: KeyError at ")
    assert check_books(result)["written"] == 25


# --- bench


@pytest.mark.parametrize("error", ["MemoryError()", "KeyError('x')", "SystemExit(0)"])
def test_an_exception_in_a_loop_of_the_ring_bench_is_told(lab, error):
    env = patched(
        "from xdpcap.bench import rings\n"
        "class RingLoop(rings.RingLoop):\n"
        f"    def run(self):\n        raise {error}\n"
        "rings.RingLoop = RingLoop\n"
    )
    result = bench(lab, "rx-drop", "-i", "rx0", "--duration", "5s", env=env)
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: rx0 queue 0: ")
    assert attached(lab) is None


def test_an_exception_in_the_main_thread_of_the_ring_bench_stops_the_loops_first(lab):
    env = fault("xdpcap.bench.rings._Session", "_moment", "KeyError('x')", after=2)
    result = bench(lab, "rx-drop", "-i", "rx0", "--duration", "5s", env=env)
    assert result.returncode == 1
    assert len(failures(result)) == 1, result.stderr
    assert attached(lab) is None


@pytest.mark.parametrize("error", ["MemoryError()", "KeyError('x')", "SystemExit(0)"])
def test_an_exception_in_a_simulated_worker_is_told(lab, tmp_path, error):
    env = fault("xdpcap.bench.simulator.SimulatedWorker", "_record", error)
    arguments = ["record", "--simulate", "capture", "-o", tmp_path, "--duration", "5s", "--json"]
    result = bench(lab, *arguments, env=env)
    assert result.returncode == 1
    assert json.loads(result.stdout)["problems"]


def test_a_simulated_worker_that_can_not_be_started_leaves_no_empty_file(lab, tmp_path):
    arguments = ["--queues", "0-2", "-o", tmp_path, "--keep", "--duration", "0.2s", "--json"]
    env = no_thread_named("simulated-q2")
    result = bench(lab, "record", "--simulate", "capture", *arguments, env=env)
    assert result.returncode == 1
    [line] = failures(result)
    assert line.startswith("xdpcap: thread simulated-q2 can't be started (no more)")
    assert [path.suffix for path in tmp_path.iterdir()] == [".pcapng"] * 2


@pytest.mark.parametrize("source", ["simulated", "rx0"])
def test_a_worker_of_the_recorder_bench_that_hangs_ends_the_process(lab, tmp_path, source):
    owner = "SimulatedWorker" if source == "simulated" else "Worker"
    module = "xdpcap.bench.simulator" if source == "simulated" else "xdpcap.record.worker"
    what = ["--simulate", "capture"] if source == "simulated" else ["-i", "rx0"]
    env = hang(f"{module}.{owner}", "_finish")
    arguments = [*what, "-o", tmp_path, "--duration", "0.1s"]
    result = bench(lab, "record", *arguments, env=env)
    assert result.returncode == 1
    assert [line for line in failures(result) if line.endswith("is the disk stuck?")]
    assert attached(lab) is None


def test_a_loop_of_the_ring_bench_that_hangs_ends_the_process(lab):
    env = hang("xdpcap.bench.rings._Loop", "_main")
    result = bench(lab, "rx-drop", "-i", "rx0", "--duration", "0.1s", env=env)
    assert result.returncode == 1
    assert failures(result) == ["xdpcap: thread rx-drop-0 does not end"]
    assert attached(lab) is None


def test_traffic_that_breaks_off_fails_the_measurement_that_needs_it(lab, monkeypatch):
    def blast(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(lab_run, "blast", blast)
    with (
        pytest.raises(XdpcapError, match="the traffic broke off: out of memory"),
        lab_run._Blaster(lab, 60, 0),
    ):
        pass


def bench(lab, *arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    process = in_netns(
        lab.rx_ns,
        forked_command.execute,
        ["bench", *arguments],
        env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
