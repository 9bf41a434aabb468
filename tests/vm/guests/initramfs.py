"""The kernel image and the first file system of a guest, from an unpacked kernel package.

The first file system holds busybox, the modules that a guest needs and `init`, which mounts this
machine's files (Documentation/driver-api/early-userspace/buffer-format.rst has its layout).
"""

from __future__ import annotations

import lzma
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from guests.cache import GuestError

MODULES = (
    *("virtio_pci", "virtio_net", "9p", "9pnet_virtio", "overlay"),
    *("veth", "igb", "xsk_diag"),
    # Devices, a file system and a way of packets out of a device that tests of the lab make.
    *("dummy", "bridge", "macvlan", "ifb", "tun", "loop", "crc32c_generic", "ext4"),
    *("sch_ingress", "cls_bpf"),
)
APPLETS = ("sh", "mount", "mkdir", "insmod", "switch_root", "cat", "echo", "reboot")

ZSTD_MAGIC, XZ_MAGIC, ELF_MAGIC = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"\x7fELF"
# Offsets of the setup header (Documentation/arch/x86/boot.rst).
SETUP_SECTORS, PAYLOAD = 0x1F1, 0x248


def kernel_image(bzimage: bytes) -> bytes:
    """The ELF kernel within a bzImage, which need not unpack itself then.

    QEMU starts it through its PVH note; under emulation that saves seconds.
    """
    setup = ((bzimage[SETUP_SECTORS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, PAYLOAD)
    payload = bzimage[setup + offset : setup + offset + length]
    if payload.startswith(ZSTD_MAGIC):
        image = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    elif payload.startswith(XZ_MAGIC):
        image = lzma.LZMADecompressor().decompress(payload)
    else:
        raise GuestError("the kernel's payload is neither zstd nor xz")
    if not image.startswith(ELF_MAGIC):
        raise GuestError("the kernel's payload is no ELF image")
    return image


def initramfs(modules: Path, busybox: Path, init: Path) -> bytes:
    """The first file system, as cpio; `modules` is a kernel's directory of modules."""
    files = list(_modules(modules, MODULES))
    order = "".join(f"{name}\n" for name, _ in files)
    archive = _Cpio()
    for name in ("bin", "dev", "proc", "sys", "modules", "host", "changes", "new"):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for applet in APPLETS:
        archive.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    archive.add("init", stat.S_IFREG | 0o755, init.read_bytes())
    for name, data in files:
        archive.add(f"modules/{name}.ko", stat.S_IFREG | 0o644, data)
    archive.add("modules/order", stat.S_IFREG | 0o644, order.encode())
    return archive.finish()


def _modules(directory: Path, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of modules and what they depend on, in the order of loading.

    A name that is not there is built into the kernel.
    """
    files = {}
    for path in directory.rglob("*.ko*"):
        if match := re.fullmatch(r"(.+?)\.ko(\.xz)?", path.name):
            files[match[1].replace("-", "_")] = path
    done: set[str] = set()

    def load(name: str) -> Iterator[tuple[str, bytes]]:
        name = name.replace("-", "_")
        if name in done or name not in files:
            return
        done.add(name)
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            data = lzma.decompress(data)
        # .modinfo: NUL-terminated "key=value" strings.
        for found in re.findall(rb"\0depends=([^\0]*)\0", data):
            for dependency in filter(None, found.decode().split(",")):
                yield from load(dependency)
        yield name, data

    for name in wanted:
        yield from load(name)


class _Cpio:
    """A cpio archive in the "newc" form."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._count = 0

    def add(
        self, name: str, mode: int, data: bytes = b"", *, device: tuple[int, int] = (0, 0)
    ) -> None:
        self._count += 1
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, time, size, two pairs of device numbers, name, checksum
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (path, data):
            self._data += part
            self._data += bytes(-len(self._data) % 4)

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return bytes(self._data)
