"""What kernel versions are read as, and what is told when one lacks something."""

import errno
import os
import socket

import pytest

from xdpcap.errors import KernelError, UsageError
from xdpcap.host import kernel
from xdpcap.options.replay import ReplayOptions
from xdpcap.replay.session import replay_session


def pretend(monkeypatch, release):
    real = os.uname()
    fake = os.uname_result((real.sysname, real.nodename, release, real.version, real.machine))
    monkeypatch.setattr(os, "uname", lambda: fake)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-18-amd64", (6, 1)),
        ("4.18.0-553.el8_10.x86_64", (4, 18)),
        ("5.15.153.1-microsoft-standard-WSL2", (5, 15)),
        ("6.12-rc3", (6, 12)),
        ("10.0", (10, 0)),
        ("unknown", (0, 0)),
    ],
)
def test_a_release_is_read_as_major_and_minor(release, version):
    assert kernel.parse(release) == version


def test_the_running_kernel_has_a_version():
    assert kernel.version() >= (4, 18)


def test_minor_versions_are_compared_as_numbers(monkeypatch):
    pretend(monkeypatch, "5.10.0")
    assert kernel.has_bpf_link()
    assert not kernel.has_busy_poll()


@pytest.mark.parametrize(
    ("predicate", "first"),
    [
        (kernel.has_redirect_flags, "5.3"),
        (kernel.has_need_wakeup, "5.4"),
        (kernel.has_split_capabilities, "5.8"),
        (kernel.has_bpf_link, "5.9"),
        (kernel.has_busy_poll, "5.11"),
        (kernel.has_cgroup_memory_accounting, "5.11"),
        (kernel.has_tai, "6.1"),
        (kernel.has_multi_buffer, "6.6"),
        (kernel.has_launch_time, "6.15"),
    ],
)
def test_a_feature_is_there_from_its_first_release_on(monkeypatch, predicate, first):
    major, minor = map(int, first.split("."))
    pretend(monkeypatch, f"{first}.0-test")
    assert predicate()
    pretend(monkeypatch, f"{major}.{minor - 1}.99-test")
    assert not predicate()


def test_a_kernel_that_is_too_old_is_named_with_what_needs_a_newer_one(monkeypatch):
    pretend(monkeypatch, "5.4.0-150-generic")
    kernel.require((5, 4), "anything")
    with pytest.raises(UsageError) as caught:
        kernel.require((5, 11), "--busy-poll")
    text = str(caught.value)
    assert text.startswith("--busy-poll needs Linux 5.11 or later and this is 5.4.0-150-generic;")
    assert "\n" not in text


def test_a_kernel_before_af_xdp_is_told_by_its_version(monkeypatch):
    pretend(monkeypatch, "4.15.0-200-generic")
    with pytest.raises(UsageError, match=r"Linux 4\.18 or later \(AF_XDP\) and this is 4\.15\.0"):
        kernel.require_af_xdp()


class Refusing:
    """socket.socket as a kernel would answer that refuses with one errno."""

    def __init__(self, number):
        self.number = number

    def __call__(self, family, *_):
        assert family == 44
        raise OSError(self.number, os.strerror(self.number))


def test_a_kernel_built_without_af_xdp_is_told_by_its_option(monkeypatch):
    monkeypatch.setattr(socket, "socket", Refusing(errno.EAFNOSUPPORT))
    assert not kernel.af_xdp_available()
    with pytest.raises(UsageError, match="CONFIG_XDP_SOCKETS"):
        kernel.require_af_xdp()


def test_lacking_the_privilege_does_not_look_like_lacking_af_xdp(monkeypatch):
    monkeypatch.setattr(socket, "socket", Refusing(errno.EPERM))
    assert kernel.af_xdp_available()


def test_any_other_failure_to_make_the_socket_is_told_as_it_is(monkeypatch):
    monkeypatch.setattr(socket, "socket", Refusing(errno.EMFILE))
    with pytest.raises(KernelError, match="EMFILE"):
        kernel.af_xdp_available()


def test_this_kernel_has_af_xdp():
    assert kernel.af_xdp_available()
    kernel.require_af_xdp()


def test_a_replay_names_the_kernel_that_it_needs(monkeypatch):
    pretend(monkeypatch, "5.0.21-test")
    options = ReplayOptions(files=("web.pcap",), interface="eth1")
    with pytest.raises(UsageError, match=r"^replay needs Linux 5\.1 or later and this is 5\.0\.21"):
        replay_session(options, None)
