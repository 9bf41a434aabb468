"""Privileges as the kernel grants and takes them, each case in a process of its own; needs root."""

import subprocess
import sys

import pytest
from timeouts import PATIENCE

from xdpcap.host import privileges

MISSING = "from xdpcap.host import privileges; print(privileges.missing(64 << 20))"
FOUR = "+net_admin,+net_raw,+bpf,+perfmon"


def run(code, *wrapper):
    """What a Python program prints, started through the wrapper."""
    command = [*wrapper, sys.executable, "-c", code]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_root_misses_nothing():
    assert run(MISSING) == "[]"


def test_a_process_without_capabilities_misses_them_all():
    wrapper = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", "prlimit", "--memlock=65536")
    told = run(MISSING, *wrapper)
    assert told == "['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_PERFMON', 'memlock']"


def test_the_four_capabilities_and_a_limit_that_suffices_are_enough():
    wrapper = ("setpriv", "--inh-caps=-all", f"--bounding-set=-all,{FOUR}")
    wrapper = ("prlimit", "--memlock=1048576", *wrapper)
    assert run(MISSING.replace("64 << 20", "1 << 20"), *wrapper) == "[]"
    assert run(MISSING, *wrapper) == "['memlock']"


def test_root_of_a_users_own_namespace_is_told_apart():
    assert run(MISSING, "unshare", "--user", "--map-root-user") == "['the initial user namespace']"


def test_the_memlock_limit_is_raised_as_far_as_allowed():
    code = "from xdpcap.host import privileges; print(privileges.raise_memlock())"
    # Root in a container often lacks CAP_SYS_RESOURCE, and then a hard limit is a hard limit.
    may_exceed = privileges.effective_capabilities() >> privileges.CAP_SYS_RESOURCE & 1
    assert run(code, "prlimit", "--memlock=65536") == ("-1" if may_exceed else "65536")
    wrapper = ("setpriv", "--inh-caps=-all", "--bounding-set=-sys_resource")
    assert run(code, "prlimit", "--memlock=65536:1048576", *wrapper) == "1048576"


DROP = """
import os, socket, threading
from xdpcap.host import privileges
go, done = threading.Event(), threading.Event()
told = {}

def attempt():
    try:
        os.setuid(0)
        return "root again"
    except PermissionError:
        return "refused"

def worker():
    go.wait()
    told["thread"] = (os.getresuid(), os.getresgid(), attempt())

thread = threading.Thread(target=worker)
thread.start()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
privileges.drop_to(USER)
go.set()
thread.join()
assert told["thread"] == (os.getresuid(), os.getresgid(), attempt()), told
raw.getsockname()
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    told["raw"] = "granted"
except PermissionError:
    told["raw"] = "refused"
try:
    open("/etc/shadow").close()
    told["shadow"] = "read"
except PermissionError:
    told["shadow"] = "refused"
print(told["thread"], os.getgroups(), told["raw"], told["shadow"], privileges.missing()[:4])
"""


@pytest.mark.parametrize("user", ["nobody", "65534"])
def test_dropping_to_a_user_is_final_in_every_thread(user):
    told = run(DROP.replace("USER", repr(user)))
    ids = (65534, 65534, 65534)
    lacking = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"]
    assert told == f"{(ids, ids, 'refused')} [65534] refused refused {lacking}"


def test_a_process_that_may_not_change_its_user_says_what_it_lacks():
    code = (
        "from xdpcap.host import privileges\n"
        "try: privileges.drop_to('nobody')\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    wrapper = ("setpriv", "--inh-caps=-all", "--bounding-set=-setuid,-setgid")
    told = run(code, *wrapper)
    assert told.startswith("KernelError becoming user nobody: EPERM")
    assert told.endswith("CAP_SETUID and CAP_SETGID are needed")


def test_rights_that_were_kept_on_purpose_are_noticed():
    code = (
        "import ctypes\n"
        "from xdpcap.host import privileges\n"
        "PR_SET_KEEPCAPS = 8\n"
        "assert ctypes.CDLL(None).prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0\n"
        "try: privileges.drop_to('nobody')\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    assert "kept rights of root's" in run(code)
