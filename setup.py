"""Build logic only: metadata and pins live in pyproject.toml.

Two kinds of things are built:

* ``bpf/*.bpf.c`` -> ``xdpcap/programs/objects/*.bpf.o`` with clang (package data);
  ``record.bpf.c`` is compiled once per variant, see VARIANTS.
* ``ext/xdpcap/**/*.pyx`` -> a module of the same path below ``xdpcap/``, with Cython and
  the C compiler, flags from pkg-config.

``XDPCAP_DEBUG=1`` turns on Cython's checks, line tracing and AddressSanitizer.
"""

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
DEBUG = os.environ.get("XDPCAP_DEBUG") == "1"
PROGRAMS = Path("xdpcap/programs/objects")
# What programs of users' own are compiled with: `xdpcap --cflags` names the directory.
HEADERS = ["xdpcap_abi.h"]

# What one source becomes: (source, object, extra defines).
#   frags   multi-buffer packets, kernel 6.6 and later (XDP_USE_SG)
#   metadata  the same, bound to one device, asks its driver for each packet's metadata
#   plain   kernel 5.3 and later
#   bare    no metadata, for a libxdp dispatcher that takes no program that writes any
#   mirror  copies into BPF ring buffers, kernel 5.18 and later
#   mirror_metadata  the same as metadata is to frags
#   mirror_perf  copies into perf rings, kernel 5.2 and later
#   legacy  kernel 4.18 to 5.2: no flags in bpf_redirect_map(), no global data
VARIANTS = [
    ("record.bpf.c", "record_frags.bpf.o", ["-DXDPCAP_FRAGS"]),
    ("record.bpf.c", "record_metadata.bpf.o", ["-DXDPCAP_FRAGS", "-DXDPCAP_METADATA"]),
    ("record.bpf.c", "record_plain.bpf.o", []),
    ("record.bpf.c", "record_bare.bpf.o", ["-DXDPCAP_FRAGS", "-DXDPCAP_BARE"]),
    ("record.bpf.c", "record_mirror.bpf.o", ["-DXDPCAP_FRAGS", "-DXDPCAP_MIRROR"]),
    (
        "record.bpf.c",
        "record_mirror_metadata.bpf.o",
        ["-DXDPCAP_FRAGS", "-DXDPCAP_MIRROR", "-DXDPCAP_METADATA"],
    ),
    ("record.bpf.c", "record_mirror_perf.bpf.o", ["-DXDPCAP_MIRROR_PERF"]),
    ("record.bpf.c", "record_legacy.bpf.o", ["-DXDPCAP_LEGACY"]),
]

# Every module is linked against all of them; the linker keeps those that it needs (--as-needed).
LIBRARIES = ["libxdp", "libbpf", "liburing", "libpcap"]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": not DEBUG,
    "initializedcheck": DEBUG,
    "linetrace": DEBUG,
    "embedsignature": True,
}


@functools.cache
def pkg_config(option):
    """Flags of the libraries; a missing one ends the build with its remedy."""
    try:
        out = subprocess.run(
            ["pkg-config", option, *LIBRARIES], check=True, capture_output=True, text=True
        ).stdout
    except FileNotFoundError:
        sys.exit("xdpcap: pkg-config is not installed; run `make setup`")
    except subprocess.CalledProcessError as exc:
        sys.exit(f"xdpcap: {exc.stderr.strip().splitlines()[0]}; run `make setup`")
    return shlex.split(out)


def extension(path):
    """The module that a .pyx file becomes: ext/xdpcap/rings/xsk.pyx is xdpcap.rings.xsk."""
    cflags = ["-O2", "-g", "-std=gnu11", "-Wall", "-Wno-unused-function"]
    ldflags = ["-Wl,--as-needed"]
    cflags += pkg_config("--cflags")
    ldflags += pkg_config("--libs")
    if DEBUG:
        cflags += ["-O0", "-fsanitize=address", "-DCYTHON_TRACE_NOGIL=1"]
        ldflags += ["-fsanitize=address"]
    return Extension(
        ".".join(path.relative_to("ext").with_suffix("").parts),
        [str(path)],
        include_dirs=["bpf", "ext/xdpcap"],
        extra_compile_args=cflags,
        extra_link_args=ldflags,
        depends=["bpf/xdpcap_abi.h", *map(str, sorted(Path("ext").rglob("*.h")))],
    )


def extensions():
    from Cython.Build import cythonize

    return cythonize(
        [extension(path) for path in sorted(Path("ext").rglob("*.pyx"))],
        include_path=["ext"],
        # Cython compares times, not directives: each kind of build has its own C files.
        build_dir="build/debug" if DEBUG else "build",
        nthreads=os.cpu_count() or 1,
        compiler_directives=DIRECTIVES,
        show_all_warnings=False,
    )


def compile_programs(target_dir):
    """Compile every BPF program into target_dir, when its sources are newer."""
    (target_dir / "include").mkdir(parents=True, exist_ok=True)
    for header in HEADERS:
        shutil.copy(Path("bpf") / header, target_dir / "include")
    jobs = list(VARIANTS)
    for source in sorted(Path("bpf").glob("*.bpf.c")):
        if source.name != "record.bpf.c":
            jobs.append((source.name, source.name[:-2] + ".o", []))
    newest = max(p.stat().st_mtime for p in Path("bpf").glob("*.[ch]"))
    arch = {"x86_64": "x86", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for source, target, defines in jobs:
        out = target_dir / target
        if out.exists() and out.stat().st_mtime > newest:
            continue
        command = [
            "clang", "-O2", "-g", "-target", "bpf", "-Wall", "-Werror",
            f"-D__TARGET_ARCH_{arch}", f"-I/usr/include/{platform.machine()}-linux-gnu",
            *defines, "-c", f"bpf/{source}", "-o", str(out),
        ]  # fmt: skip
        print(" ".join(command))
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            sys.exit("xdpcap: clang is not installed; run `make setup`")
        except subprocess.CalledProcessError:
            sys.exit(f"xdpcap: bpf/{source} does not compile")


class BuildPy(build_py):
    """build_py that compiles the BPF programs first, so they ship as package data."""

    def run(self):
        compile_programs(ROOT / PROGRAMS)
        super().run()


if __name__ == "__main__":
    os.chdir(ROOT)
    if {"build_ext", "develop", "editable_wheel", "bdist_wheel", "build"} & set(sys.argv):
        compile_programs(ROOT / PROGRAMS)
    setup(
        ext_modules=extensions(),
        cmdclass={"build_py": BuildPy},
        options={"build_ext": {"parallel": os.cpu_count()}},
    )
