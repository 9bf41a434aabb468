"""The command on a machine that is not this one: an older kernel, one without AF_XDP, a NIC
that stamps packets.

Such a machine is made of the environment alone: PYTHONPATH leads to a `sitecustomize`
that changes what the process is told before xdpcap is imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from kernel_requirements import RING_BUFFER

from xdpcap.host import kernel

_OLDER = """
import os
_real = os.uname()
_told = os.uname_result((_real.sysname, _real.nodename, {release!r}, _real.version, _real.machine))
os.uname = lambda: _told
"""

_NO_AF_XDP = """
import errno, os, socket
class _Socket(socket.socket):
    def __init__(self, family=-1, *args, **kwargs):
        if family == 44:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *args, **kwargs)
socket.socket = _Socket
"""

# What the kernel answers about time stamping, and what /dev/ptp7 is; what was set lies in a file,
# for the guardian to see as well.  The programs are those whose driver answers (tests/programs).
_CLOCK = """
import os, time, types
from pathlib import Path
from xdpcap.programs import builds
from xdpcap.net import nic_clock
from xdpcap.net import ethtool, timestamping

state = Path({state!r})

def _ioctl(name, request, structure):
    if request == timestamping.SIOCSHWTSTAMP:
        written = state.with_suffix(".new")
        written.write_bytes(structure)
        written.replace(state)
    return state.read_bytes()

def _open(path, flags):
    assert path == "/dev/ptp7"
    return os.open(os.devnull, flags)

timestamping._ioctl = _ioctl
ethtool._ts_info = lambda name: (0x41, 0x7f, 7, 3, 1 << 0 | 1 << 1)
nic_clock.os = types.SimpleNamespace(
    open=_open, close=os.close, O_RDONLY=os.O_RDONLY, O_CLOEXEC=os.O_CLOEXEC
)
nic_clock.dynamic_clock = lambda descriptor: time.CLOCK_BOOTTIME
programs = Path({programs!r})

def _asking(mirror=False):
    name = "mirror.o" if mirror else "record.o"
    yield builds.Variant(str(programs / name), "tai", True, queries_driver=True)

builds.driver_metadata_variants = _asking
"""

# The clock is real, and another NIC's.
_LENT = """
import struct
from xdpcap.net import ethtool, timestamping

timestamping._ioctl = lambda name, request, structure: struct.pack("=iii", 0, 1, 1)
ethtool._ts_info = lambda name: (0x41, 0x7f, {number}, 3, 1 << 0 | 1 << 1)
"""


def older_kernel(release: str) -> dict[str, str]:
    """An environment in which the kernel says that it is `release`, if it is newer."""
    if kernel.version() < kernel.parse(release):
        release = os.uname().release
    return patched(_OLDER.format(release=release))


def kernel_without_af_xdp() -> dict[str, str]:
    """An environment in which the kernel knows no AF_XDP sockets."""
    return patched(_NO_AF_XDP)


def nic_with_clock(state: Path, programs: Path) -> dict[str, str]:
    """An environment in which each interface's NIC has a clock, that since the machine's start.

    `state` holds struct hwtstamp_config, what the NIC is set to stamp. `programs` has record.o and
    mirror.o, record.bpf.c with such a driver in it.
    """
    return patched(_CLOCK.format(state=str(state), programs=str(programs)))


def lent_clock(number: int) -> dict[str, str]:
    """An environment in which each interface stamps packets by the clock /dev/ptpNUMBER."""
    return patched(_LENT.format(number=number))


def patched(code: str) -> dict[str, str]:
    """An environment in which this code has run before the command begins."""
    directory = Path(tempfile.mkdtemp(prefix="xdpcap-elsewhere-"))
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}


# Mirror mode's builds: a ring buffer a queue, and perf rings, as kernels before 5.18 have them.
MIRROR_BUILDS = {"ring buffer": None, "perf rings": older_kernel("5.15.0")}
EACH_MIRROR_BUILD = [pytest.param("ring buffer", marks=RING_BUFFER), "perf rings"]
