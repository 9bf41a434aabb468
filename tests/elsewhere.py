"""The command on a machine that is not this one: an older kernel, one without AF_XDP.

Such a machine is made of the environment alone: PYTHONPATH leads to a `sitecustomize`
that changes what the process is told before xdpcap is imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from xdpcap import kernel

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


def older_kernel(release: str) -> dict[str, str]:
    """An environment in which the kernel says that it is `release`, if it is newer."""
    if kernel.version() < kernel.parse(release):
        release = os.uname().release
    return _environment(_OLDER.format(release=release))


def kernel_without_af_xdp() -> dict[str, str]:
    """An environment in which the kernel knows no AF_XDP sockets."""
    return _environment(_NO_AF_XDP)


def _environment(code: str) -> dict[str, str]:
    directory = Path(tempfile.mkdtemp(prefix="xdpcap-elsewhere-"))
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}


# Mirror mode's builds: a ring buffer a queue, and perf rings, as kernels before 5.18 have them.
MIRROR_BUILDS = {"ring buffer": None, "perf rings": older_kernel("5.15.0")}
