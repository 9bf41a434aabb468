"""Open BPF object files; find their XDP programs, the maps that a recording uses, their clock.

Purpose: open our objects and those of users' own programs (docs/custom-programs.md), with
errors that name what is missing.  Nothing is loaded.
Owner: the control thread.
Frees: nothing; the caller owns an opened object.

Source relied on: libbpf 1.1, src/libbpf.c; bpf/xdpcap_abi.h.
"""

from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.string cimport memset

from xdpcap.clib.abi cimport *
from xdpcap.clib.libbpf cimport *

import os
from collections import namedtuple

from xdpcap.errors import KernelError, UsageError, XdpcapError


cdef extern from "library_log.h":
    char *xdpcap_library_log
    int xdpcap_log_message(...)

CLOCKS = {"monotonic": XDPCAP_CLOCK_MONOTONIC, "tai": XDPCAP_CLOCK_TAI}
CLOCK_NAMES = {number: name for name, number in CLOCKS.items()}
COMPILE = "compile it with `clang -O2 -g -target bpf`, docs/custom-programs.md shows how"

Examined = namedtuple("Examined", "name clock frags has_counters foreign_counters")
Examined.__doc__ = """A user's program: its name in the object, the clock that stamps its packets
("monotonic", "tai"), whether it supports multi-buffer packets, whether it has our counters map,
and whether it has a map of that name with another layout."""

libbpf_set_print(<void *>xdpcap_log_message)


def library_messages():
    """libbpf's log messages in this thread since the last call, on one line."""
    text = xdpcap_library_log.decode("utf-8", "replace")
    xdpcap_library_log[0] = 0
    lines = [line.strip().removeprefix("libbpf: ") for line in text.splitlines()]
    return " | ".join(line for line in lines if line)


def examine(str path not None, str name not None=""):
    """Examine a user's object before it is loaded; returns `Examined`.

    `name` is the program's, "" for the only one.  Raises UsageError for an object that can't
    redirect packets to AF_XDP sockets.
    """
    cdef bpf_object *object = open_object(path, True)
    cdef bpf_program *program
    try:
        program = find_program(object, path, name)
        find_xsks_map(object, path, True)
        has_counters = find_counters(object) != NULL
        named = bpf_object__find_map_by_name(object, XDPCAP_COUNTERS_MAP) != NULL
        return Examined(bpf_program__name(program).decode(), clock_of(object, path),
                        supports_frags(program), has_counters, named and not has_counters)
    finally:
        bpf_object__close(object)


cdef bpf_object *open_object(str path, bint foreign, bytes image=None) except NULL:
    """Open the object in a file, or `image` in its place; `foreign`: it is a user's."""
    cdef bpf_object *object
    try:
        open(path, "rb").close()
    except OSError as exc:
        if foreign:
            raise UsageError(f"{path}: {exc.strerror}; --bpf names a compiled eBPF object") from None
        raise KernelError(f"open({path})", exc.errno, "`make setup` builds it") from None
    library_messages()
    if image is None:
        object = bpf_object__open_file(os.fsencode(path), NULL)
    else:
        object = _open_image(path, image)
    if object != NULL:
        return object
    # Error numbers from 4000 on are libbpf's own and have no name (libbpf.h).
    error = f"libbpf error {errno}"
    if foreign:
        raise UsageError(f"{path} is no eBPF object that libbpf can read "
                         f"({library_messages() or error}); {COMPILE}")
    raise XdpcapError(f"{path} is not a complete eBPF object ({error}); `make setup` rebuilds it")


cdef bpf_object *_open_image(str path, bytes image) noexcept:
    """Open an object in memory, with the name that libbpf derives from `path`."""
    cdef bpf_object_open_opts opts
    name = os.path.basename(os.fsencode(path)).partition(b".")[0]
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.object_name = name
    return bpf_object__open_mem(<const char *>image, len(image), &opts)


cdef bpf_program *find_program(bpf_object *object, str path, str name) except NULL:
    """The program `name`; the only XDP program when that is ""."""
    cdef bpf_program *program = NULL
    cdef bpf_program *found = NULL
    names = []
    while True:
        program = bpf_object__next_program(object, program)
        if program == NULL:
            break
        # SEC("xdp/devmap") and SEC("xdp/cpumap") have this type but don't run on receive.
        if (bpf_program__type(program) != BPF_PROG_TYPE_XDP
                or bpf_program__expected_attach_type(program) not in (0, BPF_XDP)):
            continue
        this = bpf_program__name(program).decode()
        names.append(this)
        if name in ("", this):
            found = program
    if not names:
        raise UsageError(f'{path} has no XDP program; one is a function in SEC("xdp")')
    if found == NULL:
        raise UsageError(f"{path} has no XDP program named {name}; it has {', '.join(names)}")
    if not name and len(names) > 1:
        raise UsageError(f"{path} has the XDP programs {', '.join(names)}; "
                         f"choose one, as in --bpf {path}:{names[0]}")
    return found


cdef bpf_map *find_xsks_map(bpf_object *object, str path, bint foreign) except? NULL:
    """The map of sockets: the XSKMAP `xsks_map`, else the only XSKMAP.

    Without one: NULL, and UsageError for a user's object.
    """
    cdef bpf_map *found = bpf_object__find_map_by_name(object, XDPCAP_XSKS_MAP)
    cdef bpf_map *map = NULL
    if found != NULL and bpf_map__type(found) == BPF_MAP_TYPE_XSKMAP:
        return found
    found = NULL
    names = []
    while True:
        map = bpf_object__next_map(object, map)
        if map == NULL:
            break
        if bpf_map__type(map) == BPF_MAP_TYPE_XSKMAP:
            names.append(bpf_map__name(map).decode())
            found = map
    if len(names) > 1:
        raise UsageError(f"{path} has the XSKMAPs {', '.join(names)}; "
                         "name the one for the recording's sockets xsks_map")
    if found == NULL and foreign:
        raise UsageError(f"{path} has no XSKMAP to redirect packets to a recording; "
                         "docs/custom-programs.md shows one")
    return found


cdef bpf_map *find_counters(bpf_object *object) noexcept:
    """The map of our counters; NULL if there is none, or if it has another layout."""
    cdef bpf_map *found = bpf_object__find_map_by_name(object, XDPCAP_COUNTERS_MAP)
    if (found == NULL or <int>bpf_map__type(found) != BPF_MAP_TYPE_PERCPU_ARRAY
            or bpf_map__key_size(found) != sizeof(uint32_t)
            or bpf_map__value_size(found) != sizeof(xdpcap_counters)):
        return NULL
    return found


cdef str clock_of(bpf_object *object, str path):
    """The clock in the object's settings; "monotonic" without settings."""
    cdef size_t size = 0
    cdef xdpcap_settings *settings
    cdef bpf_map *found = bpf_object__find_map_by_name(object, XDPCAP_SETTINGS)
    if found == NULL:
        return "monotonic"
    settings = <xdpcap_settings *>bpf_map__initial_value(found, &size)
    # The clock is the first field, so settings of an older header can be read too.
    if settings == NULL or size < sizeof(settings.clock):
        raise UsageError(f"{path} has settings of {size} bytes; "
                         "they must be a struct xdpcap_settings")
    if settings.clock not in CLOCK_NAMES:
        raise UsageError(f"{path} has clock {settings.clock} in its settings, which is not in "
                         "enum xdpcap_clock; compile it with this version's xdpcap_abi.h")
    return CLOCK_NAMES[settings.clock]


cdef bint supports_frags(bpf_program *program) except -1:
    """Whether the program is declared to support multi-buffer packets."""
    # SEC("xdp.frags"), or SEC("xdp.frags/NAME"); libbpf sets the flag when it loads.
    return bpf_program__section_name(program).split(b"/")[0] == b"xdp.frags"
