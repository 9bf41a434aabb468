"""Which privileges are found missing, and what is told about it; no privilege is needed."""

import os
import pwd
import resource

import pytest

from xdpcap.errors import UsageError
from xdpcap.host import kernel, privileges

BITS = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
RECORDING = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON")


@pytest.fixture
def process(monkeypatch):
    """Sets what the process is taken to hold: capabilities, hard memlock limit, kernel."""

    def hold(*names, hard=resource.RLIM_INFINITY, version=(6, 1), initial=True):
        mask = sum(1 << BITS[name] for name in names)
        monkeypatch.setattr(privileges, "effective_capabilities", lambda: mask)
        monkeypatch.setattr(privileges, "_in_initial_user_namespace", lambda: initial)
        monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, hard))
        monkeypatch.setattr(kernel, "version", lambda: version)

    return hold


def test_nothing_is_missing_with_the_four_capabilities_and_no_limit(process):
    process(*RECORDING)
    assert privileges.missing() == []
    privileges.require()


def test_each_capability_is_missed_by_name(process):
    process()
    assert privileges.missing() == list(RECORDING)
    process("CAP_NET_ADMIN", "CAP_BPF")
    assert privileges.missing() == ["CAP_NET_RAW", "CAP_PERFMON"]


def test_sys_admin_stands_in_for_the_two_carved_out_of_it_and_for_no_other(process):
    process("CAP_SYS_ADMIN")
    assert privileges.missing() == ["CAP_NET_ADMIN", "CAP_NET_RAW"]


def test_before_5_8_sys_admin_is_what_is_needed(process):
    process("CAP_NET_ADMIN", "CAP_NET_RAW", version=(5, 7))
    assert privileges.missing() == ["CAP_SYS_ADMIN"]
    process("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", version=(5, 7))
    assert privileges.missing() == []


def test_a_low_memlock_limit_is_missed_unless_it_does_not_bind(process):
    process(*RECORDING, hard=8 << 20)
    assert privileges.missing(64 << 20) == ["memlock"]
    assert privileges.missing(8 << 20) == []
    process(*RECORDING, "CAP_IPC_LOCK", hard=8 << 20)
    assert privileges.missing(64 << 20) == []
    process(*RECORDING, "CAP_SYS_RESOURCE", hard=8 << 20)
    assert privileges.missing(64 << 20) == []


def test_before_5_11_the_limit_binds_maps_even_with_ipc_lock(process):
    process(*RECORDING, "CAP_IPC_LOCK", hard=8 << 20, version=(5, 10))
    assert privileges.missing(64 << 20) == ["memlock"]


def test_capabilities_of_a_users_own_namespace_do_not_count(process):
    process(*RECORDING, "CAP_SYS_RESOURCE", initial=False)
    assert privileges.missing() == ["the initial user namespace"]
    with pytest.raises(UsageError, match="outside of the container"):
        privileges.require()


def test_what_is_missing_is_told_in_one_line_with_the_way_out(process):
    process("CAP_NET_RAW", "CAP_PERFMON", hard=8 << 20)
    with pytest.raises(UsageError) as caught:
        privileges.require()
    text = str(caught.value)
    assert "missing: CAP_NET_ADMIN, CAP_BPF, memlock; run it with sudo" in text
    python = os.path.realpath("/proc/self/exe")
    granted = "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock=ep"
    assert f"`setcap {granted} {python}`" in text
    assert "\n" not in text and caught.value.exit_code == 2


def test_only_memlock_missing_names_the_ulimit(process):
    process(*RECORDING, hard=8 << 20)
    with pytest.raises(UsageError, match="`ulimit -l 65536`"):
        privileges.require(64 << 20)


def test_an_unknown_user_is_refused_before_anything_changes():
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    for user in ("no-such-user-here", "4294967290", "99999999999999999999", ""):
        with pytest.raises(UsageError, match="no user"):
            privileges.drop_to(user)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.parametrize("user", ["root", "0"])
def test_root_is_no_user_to_drop_to(user):
    with pytest.raises(UsageError, match="is root"):
        privileges.drop_to(user)


def test_dropping_needs_root_to_drop_from(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="needs root to give up"):
        privileges.drop_to(pwd.getpwuid(65534).pw_name)
