"""ThreadGroup: every exception is reported, and nothing a thread uses is freed while it runs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from xdpcap.errors import KernelError, XdpcapError
from xdpcap.host import threads
from xdpcap.host.threads import ThreadGroup

TIMEOUT_S = 10.0


def raising(error: BaseException):
    def target() -> None:
        raise error

    return target


def raising_any(error: BaseException):
    def function(*args: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KernelError("bind(eth0)", 16), "bind(eth0): EBUSY (Device or resource busy)"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (MemoryError(), "out of memory; end other programs"),
        (KeyError("x"), "KeyError at test_threads.py:"),
        (SystemExit(3), "SystemExit at test_threads.py:"),
        (KeyboardInterrupt(), "KeyboardInterrupt at test_threads.py:"),
    ],
)
def test_every_kind_of_exception_is_reported_as_one_line_and_wakes_the_owner(error, line):
    woken = threading.Event()
    reported: list[str] = []
    with ThreadGroup(woken.set) as group:
        thread = group.add("worker", raising(error), failed=reported.append)
        group.start()
        assert woken.wait(TIMEOUT_S)
        assert group.join() == []
    assert thread.failure is error
    [text] = reported
    assert text.startswith(line) and "\n" not in text


def test_a_thread_that_ends_by_itself_wakes_the_owner_and_reports_nothing():
    woken = threading.Event()
    reported: list[str] = []
    with ThreadGroup(woken.set) as group:
        thread = group.add("worker", lambda: None, failed=reported.append)
        group.start()
        assert woken.wait(TIMEOUT_S)
    assert (thread.failure, reported) == (None, [])


def test_a_failure_in_one_thread_does_not_end_the_others():
    stop = threading.Event()
    with ThreadGroup() as group:
        group.add("first", raising(MemoryError()))
        second = group.add("second", lambda: stop.wait(TIMEOUT_S) and None, stop=stop.set)
        group.start()
        time.sleep(0.05)
        assert second.running
    assert not second.running


def test_threads_that_were_never_started_are_stopped_and_joined_as_nothing():
    asked: list[str] = []
    group = ThreadGroup()
    thread = group.add("never", lambda: None, stop=lambda: asked.append("stop"))
    assert group.stop() == []
    group.close()
    assert asked == [] and not thread.started and not thread.running


def test_stopping_twice_does_what_stopping_once_does():
    stop = threading.Event()
    group = ThreadGroup()
    group.add("worker", lambda: stop.wait(TIMEOUT_S) and None, stop=stop.set)
    group.start()
    assert group.stop() == []
    assert group.stop() == []
    group.close()


def test_one_that_can_not_be_asked_to_stop_keeps_nobody_from_stopping_the_others():
    stop = threading.Event()
    reported: list[str] = []
    group = ThreadGroup()
    first = group.add(
        "first", lambda: stop.wait(TIMEOUT_S) and None, stop=raising(KeyError("x")),
        failed=reported.append,
    )  # fmt: skip
    second = group.add("second", lambda: stop.wait(TIMEOUT_S) and None, stop=stop.set)
    group.start()
    assert group.stop() == []
    assert not first.running and not second.running
    assert isinstance(first.failure, KeyError)
    [text] = reported
    assert text.startswith("KeyError at test_threads.py:")


def test_a_failure_is_reported_when_there_is_no_memory_to_explain_it(monkeypatch):
    monkeypatch.setattr(threads, "explain", raising_any(MemoryError()))
    reported: list[str] = []
    with ThreadGroup() as group:
        group.add("worker", raising(KeyError("x")), failed=reported.append)
        group.start()
    assert reported == ["KeyError"]


def test_when_the_third_of_five_can_not_start_the_first_two_are_stopped(monkeypatch):
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name == "t2":
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    stop = threading.Event()
    made = []
    with (
        pytest.raises(XdpcapError, match=r"thread t2 can't be started \(can't start new thread\)"),
        ThreadGroup() as group,
    ):
        for number in range(5):
            made.append(
                group.add(f"t{number}", lambda: stop.wait(TIMEOUT_S) and None, stop=stop.set)
            )
        group.start()
    assert [thread.started for thread in made] == [True, True, False, False, False]
    assert not any(thread.running for thread in made)


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


HANGING = """
import sys, threading, time
from contextlib import ExitStack
from xdpcap.host.threads import ThreadGroup

with ExitStack() as stack:
    stack.callback(print, "freed")
    group = ThreadGroup()
    stack.callback(group.close, 0.2)
    group.add("stuck", lambda: time.sleep(60){stays})
    group.start()
    {raises}
print("ended")
"""


@pytest.mark.parametrize("raises", ["pass", "raise KeyError('in the main thread')"])
def test_a_thread_that_hangs_ends_the_process_before_anything_is_freed(raises):
    begun = time.monotonic()
    result = in_a_process(HANGING.format(stays="", raises=raises))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "xdpcap: thread stuck does not end\n"
    assert time.monotonic() - begun < TIMEOUT_S


INTERRUPTED = """
import time
from contextlib import ExitStack
from xdpcap.host import threads

def join(self, timeout_s):
    raise KeyboardInterrupt

with ExitStack() as stack:
    stack.callback(print, "freed")
    group = threads.ThreadGroup()
    stack.callback(group.close)
    group.add("stuck", lambda: time.sleep(60))
    group.start()
    threads.GroupThread.join = join
"""


def test_an_interrupt_while_threads_are_waited_for_frees_nothing_under_them():
    result = in_a_process(INTERRUPTED)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "xdpcap: thread stuck does not end\n"


def test_a_thread_that_may_stay_is_left_behind():
    result = in_a_process(HANGING.format(stays=", may_stay=True", raises="pass"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "freed\nended\n", "")


def test_a_standard_error_that_is_gone_does_not_keep_a_hung_process_alive():
    code = HANGING.format(stays="", raises="sys.stderr.close()")
    result = in_a_process(code)
    assert (result.returncode, result.stdout) == (1, "")
