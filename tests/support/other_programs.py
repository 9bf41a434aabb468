"""Somebody else's XDP programs on a lab's receiver, attached by libxdp itself."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
from pathlib import Path

from xdpcap.bench.lab import Lab, in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.errors import XdpcapError
from xdpcap.programs import libxdp_dispatcher
from xdpcap.programs.builds import bare_variant
from xdpcap.programs.libxdp_dispatcher import Dispatcher

SOURCE = Path(__file__).parents[1] / "programs" / "count_and_pass.bpf.c"
PINS = Path("/sys/fs/bpf/xdp")
MODES = {"native": 1, "generic": 2}

libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
libxdp = ctypes.CDLL("libxdp.so.1", use_errno=True)
for _library, _name in (
    (libxdp, "xdp_program__find_file"),
    (libxdp, "xdp_program__open_file"),
    (libxdp, "xdp_program__bpf_obj"),
    (libbpf, "bpf_object__find_program_by_name"),
):
    getattr(_library, _name).restype = ctypes.c_void_p


def check(result: int, what: str) -> int:
    """The result of a library's function, if it is no error."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def pointer(value: int | None, what: str) -> ctypes.c_void_p:
    """A pointer that is none of libxdp's error numbers."""
    assert value and value < 2**64 - 4096, f"{what} failed"
    return ctypes.c_void_p(value)


def build(directory: Path) -> Path:
    """count_and_pass as an object file."""
    target = directory / "count_and_pass.bpf.o"
    flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{platform.machine()}-linux-gnu"]
    subprocess.run(["clang", *flags, "-c", str(SOURCE), "-o", str(target)], check=True)
    return target


class OtherProgram:
    """count_and_pass on a lab's rx0, under libxdp's dispatcher; a context manager."""

    def __init__(
        self,
        lab: Lab,
        path: Path,
        *,
        priority: int = 50,
        mode: str = "native",
        multi_buffer: bool = False,
    ) -> None:
        self.lab, self.mode = lab, MODES[mode]
        opened = libxdp.xdp_program__open_file(str(path).encode(), None, None)
        self._program = pointer(opened, "xdp_program__open_file")
        check(libxdp.xdp_program__set_run_prio(self._program, priority), "set_run_prio")
        # The section's name, xdp.frags, does not tell libxdp.
        set_support = libxdp.xdp_program__set_xdp_frags_support
        check(set_support(self._program, multi_buffer), "set_xdp_frags_support")
        in_netns(lab.rx_ns, self._attach)
        handle = ctypes.c_void_p(libxdp.xdp_program__bpf_obj(self._program))
        self._seen = check(libbpf.bpf_object__find_map_fd_by_name(handle, b"seen"), "seen")
        self.prog_id = libxdp.xdp_program__id(self._program)

    def _attach(self) -> None:
        attach = libxdp.xdp_program__attach
        check(attach(self._program, self.lab.rx_ifindex, self.mode, 0), "xdp_program__attach")

    @property
    def seen(self) -> int:
        """Packets that it was called for."""
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
        assert not libbpf.bpf_map_lookup_elem(self._seen, ctypes.byref(key), ctypes.byref(value))
        return value.value

    def detach(self) -> None:
        """Take it out of the dispatcher."""
        assert in_netns(self.lab.rx_ns, libxdp_dispatcher.leave, self.lab.rx_ifindex, self.prog_id)

    def __enter__(self) -> OtherProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        if Path(f"/run/netns/{self.lab.rx_ns}").exists():
            self.detach()
        libxdp.xdp_program__close(self._program)


class EmptyDispatcher:
    """libxdp's own dispatcher without a member, pinned as libxdp would; a context manager.

    Where a kernel has no freplace, libxdp attaches no dispatcher; one can come from
    nowhere but here.
    """

    def __init__(self, lab: Lab, *, pinned: bool = True) -> None:
        self.lab = lab
        found = libxdp.xdp_program__find_file(b"xdp-dispatcher.o", None, None)
        self._program = pointer(found, "xdp-dispatcher.o")
        handle = ctypes.c_void_p(libxdp.xdp_program__bpf_obj(self._program))
        # As xdp-loader loads it; xdp_pass, its other program, is for libxdp's own check.
        check(libbpf.bpf_object__load(handle), "bpf_object__load")
        named = libbpf.bpf_object__find_program_by_name(handle, b"xdp_dispatcher")
        self._fd = libbpf.bpf_program__fd(ctypes.c_void_p(named))
        in_netns(lab.rx_ns, self._set, self._fd)
        self.prog_id = attached_id(lab)
        self._pins = PINS / f"dispatch-{lab.rx_ifindex}-{self.prog_id}"
        if pinned:
            self._pins.mkdir(parents=True)

    def _set(self, fd: int) -> None:
        check(libbpf.bpf_xdp_attach(self.lab.rx_ifindex, fd, 4, None), "bpf_xdp_attach")

    def __enter__(self) -> EmptyDispatcher:
        return self

    def __exit__(self, *exc: object) -> None:
        in_netns(self.lab.rx_ns, self._set, -1)
        if self._pins.exists():
            self._pins.rmdir()
        libxdp.xdp_program__close(self._program)


def attached_id(lab: Lab) -> int:
    """The id of the program that the kernel has on rx0; 0 for none."""
    found = in_netns(lab.rx_ns, libxdp_dispatcher.attached_program, lab.rx_ifindex)
    return found.prog_id if found else 0


def dispatcher(lab: Lab) -> Dispatcher | None:
    """The dispatcher on rx0."""
    return in_netns(lab.rx_ns, libxdp_dispatcher.find, lab.rx_ifindex)


def members(lab: Lab) -> list[str]:
    """The names of those in the dispatcher, in their order."""
    present = dispatcher(lab)
    return [member.name for member in present.members] if present else []


def pinned(lab: Lab) -> list[str]:
    """What libxdp has pinned for rx0's index, sorted."""
    found = PINS.glob(f"dispatch-{lab.rx_ifindex}-*/*")
    return sorted(str(path.relative_to(PINS)) for path in found)


def freplace_errno() -> int:
    """0 where the kernel loads programs that replace a function of another."""
    with Lab() as lab, EmptyDispatcher(lab) as present:
        return in_netns(
            lab.rx_ns, libxdp_dispatcher.freplace_errno, bare_variant(False).path, present.prog_id
        )


@functools.cache
def freplace() -> bool:
    """Whether the kernel has it.  Where there is no lab to ask it in, every test says so."""
    try:
        return os.geteuid() == 0 and freplace_errno() == 0
    except (OSError, XdpcapError):
        return False


def where_freplace_loads(test):
    """The test is collected on such a kernel only; the others have tests of their own."""
    test.__test__ = freplace()
    return test


def where_freplace_does_not_load(test):
    """As above, the other way round."""
    test.__test__ = not freplace()
    return test


def frames(count: int, first: int = 0) -> list[bytes]:
    """What is sent to them and to a recording: short, and numbered."""
    return [numbered_frame(64, first + number) for number in range(count)]
