"""What the process is allowed to do, what of it a recording lacks, and giving it up afterwards.

A leaf beside `kernel`: reads /proc/self, changes only this process (its memlock limit, its user).
Capabilities belong to threads; these functions look at the calling thread and count on every thread
having the same, which holds until somebody calls capset(2).
"""

from __future__ import annotations

import os
import pwd
import resource
import time
from pathlib import Path

from xdpcap.errors import KernelError, UsageError, XdpcapError
from xdpcap.host import kernel

# Bits of linux/capability.h.
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_IPC_LOCK = 14
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_PERFMON = 38
CAP_BPF = 39

DEFAULT_LOCKED_BYTES = 64 << 20
# Counted on a recording: 13, some more while netlink is asked; 5 a queue (socket, io_uring,
# eventfd, the file twice), and more files while they change.
DESCRIPTORS = 32
DESCRIPTORS_A_QUEUE = 8
# A thread that Python has joined already may be in the kernel for so long.
THREAD_END_S = 1.0
INITIAL_UID_MAP = ["0", "0", "4294967295"]
INFINITE = resource.RLIM_INFINITY


def effective_capabilities() -> int:
    """The calling thread's effective set as a bit mask."""
    return _capability_set(Path("/proc/thread-self/status").read_text(), "CapEff")


def missing(locked_bytes: int = DEFAULT_LOCKED_BYTES) -> list[str]:
    """The privileges a recording needs and this process lacks; [] when it has them all.

    `locked_bytes` is all the memory that will be pinned (UMEMs and registered buffers). The names
    are those of capabilities(7), "memlock" for a limit too low to be raised, and "the initial user
    namespace": capabilities that count only in a container's user namespace load no program.
    """
    mask = effective_capabilities()
    lacking = [name for name, bits in _needed() if not any(mask >> bit & 1 for bit in bits)]
    if not _in_initial_user_namespace():
        lacking.append("the initial user namespace")
    if _memlock_short(mask, locked_bytes):
        lacking.append("memlock")
    return lacking


def require(locked_bytes: int = DEFAULT_LOCKED_BYTES) -> None:
    """Raise `UsageError` naming what is missing and how to get it, unless nothing is."""
    lacking = missing(locked_bytes)
    if not lacking:
        return
    if "the initial user namespace" in lacking:
        way_out = "run it outside of the container's user namespace, with sudo"
    elif lacking == ["memlock"]:
        way_out = f"run it with sudo, or after `ulimit -l {-(-locked_bytes // 1024)}`"
    else:
        way_out = f"run it with sudo, or once `{_setcap_command()}`"
    raise UsageError(f"not allowed to record, missing: {', '.join(lacking)}; {way_out}")


def raise_memlock() -> int:
    """Raise RLIMIT_MEMLOCK as far as allowed; returns the limit in bytes, -1 for none.

    Before 5.11 it bounds the BPF maps, and on every kernel UMEM and registered buffers of a
    process without CAP_IPC_LOCK (xdp_umem_account_pages() in net/xdp/xdp_umem.c).
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (INFINITE, INFINITE))
    except (ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]


def require_descriptors(queue_count: int = 1) -> None:
    """Raise the limit of descriptors as far as allowed; XdpcapError when that is too low."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = DESCRIPTORS + queue_count * DESCRIPTORS_A_QUEUE
    if hard < needed:
        raise XdpcapError(
            f"{queue_count} queue{'' if queue_count == 1 else 's'} may need {needed} descriptors "
            f"and the limit is {hard}; raise it with `ulimit -n {needed}`"
        )


def drop_to(user: str) -> None:
    """Become another user for good, in every thread of the process, with the user's groups.

    glibc's setgroups, setresgid and setresuid reach all threads (nptl(7)), and the kernel clears a
    thread's capabilities when its last user id of 0 goes. What is open stays open: sockets, maps,
    the BPF link. Raises `UsageError` for a user who does not exist or is root, or when the
    process is not root; `XdpcapError` should any right of root's be left.
    """
    entry = check_user(user)
    try:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except OSError as exc:
        hint = "CAP_SETUID and CAP_SETGID are needed"
        raise KernelError(f"becoming user {user}", exc.errno or 0, hint) from exc
    _verify_dropped(entry)


def check_user(user: str) -> pwd.struct_passwd:
    """The user's entry, if `drop_to` can become that user; `UsageError` as there."""
    entry = _user(user)
    if os.geteuid() != 0:
        raise UsageError(f"--user {user} needs root to give up; run it with sudo or without --user")
    return entry


def _user(user: str) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError, ValueError):
        raise UsageError(f"no user {user!r}; `getent passwd` lists them") from None
    if entry.pw_uid == 0:
        raise UsageError(f"--user {user} is root, which gives up nothing; name another user")
    return entry


def _verify_dropped(entry: pwd.struct_passwd) -> None:
    if os.getresuid() != (entry.pw_uid,) * 3 or os.getresgid() != (entry.pw_gid,) * 3:
        raise XdpcapError(f"could not become user {entry.pw_name} in full; stopping to be safe")
    try:
        os.setuid(0)
    except PermissionError:
        pass
    else:
        raise XdpcapError("root could be had back after giving it up; stopping to be safe")
    deadline = time.monotonic() + THREAD_END_S
    while (left := _threads_with_rights(entry.pw_uid)) and time.monotonic() < deadline:
        # glibc passes over a thread that is about to end; it needs a moment to be gone.
        time.sleep(0.001)
    if left:
        raise XdpcapError(f"thread {left[0]} kept rights of root's; stopping to be safe")


def _threads_with_rights(uid: int) -> list[str]:
    """The process's threads that hold a capability or an id other than `uid`."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            status = (thread / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended since
        held = _capability_set(status, "CapEff") | _capability_set(status, "CapPrm")
        if held or _user_ids(status) != {uid}:
            found.append(thread.name)
    return found


def _capability_set(status: str, field: str) -> int:
    return int(status.partition(f"\n{field}:")[2].split(maxsplit=1)[0], 16)


def _user_ids(status: str) -> set[int]:
    return set(map(int, status.partition("\nUid:")[2].split("\n", 1)[0].split()))


def _needed() -> list[tuple[str, tuple[int, ...]]]:
    """What is needed, each with the capabilities that give it.

    From 5.8 on CAP_SYS_ADMIN still stands in for the two carved out of it (bpf_capable() and
    perfmon_capable() in include/linux/capability.h).
    """
    needed: list[tuple[str, tuple[int, ...]]] = [
        ("CAP_NET_ADMIN", (CAP_NET_ADMIN,)),
        ("CAP_NET_RAW", (CAP_NET_RAW,)),
    ]
    if not kernel.has_split_capabilities():
        return [*needed, ("CAP_SYS_ADMIN", (CAP_SYS_ADMIN,))]
    needed.append(("CAP_BPF", (CAP_BPF, CAP_SYS_ADMIN)))
    needed.append(("CAP_PERFMON", (CAP_PERFMON, CAP_SYS_ADMIN)))
    return needed


def _memlock_short(mask: int, locked_bytes: int) -> bool:
    """Whether RLIMIT_MEMLOCK is in the way and can't be put out of it."""
    if mask >> CAP_SYS_RESOURCE & 1:
        return False
    exempt = mask >> CAP_IPC_LOCK & 1
    if exempt and kernel.has_cgroup_memory_accounting():
        return False
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    return hard != INFINITE and hard < locked_bytes


def _in_initial_user_namespace() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() == INITIAL_UID_MAP
    except FileNotFoundError:
        return True  # a kernel without user namespaces


def _setcap_command() -> str:
    """File capabilities go on the interpreter itself: they do not pass through a script."""
    names = [name.lower() for name, _ in _needed()]
    python = os.path.realpath("/proc/self/exe")
    return f"setcap {','.join([*names, 'cap_ipc_lock'])}=ep {python}"
