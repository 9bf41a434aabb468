"""libxdp's dispatcher: list its members, join it, leave it.

Purpose: all use of libxdp's programs.  The dispatcher is one XDP program that calls up to
ten others, each of which replaces one of its stubs (freplace); for every change libxdp
builds a new dispatcher with all members and swaps the two.
Owner: the control thread; leave() needs only ids, so the guardian process calls it too.
Frees: detach() and close().  libxdp pins the programs that it attaches in bpffs, so a member
outlives its process; programs.dispatcher removes it.

Source relied on: libxdp 1.3.1, lib/libxdp/libxdp.c and its README, "The
dispatcher"; kernel/bpf/verifier.c, bpf_check_attach_target().
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.string cimport memset

from xdpcap.programs.program cimport Program
from xdpcap.clib.libbpf cimport *
from xdpcap.clib.libxdp cimport *
from xdpcap.clib.posix cimport close_fd

import errno as _errno
import os
from collections import namedtuple
from time import sleep

from xdpcap.programs.program import attach_hint, attached_program
from xdpcap.host.open_descriptors import Leaks
from xdpcap.errors import KernelError, UsageError


cdef extern from "library_log.h":
    char *xdpcap_library_log
    int xdpcap_log_message(...)

DISPATCHER_NAME = b"xdp_dispatcher"
# The priority of libxdp's own AF_XDP program; 50 is the default (prog_dispatcher.h).  Programs
# that should run before the recording take a lower number.
RUN_PRIORITY = 20

# Retries, and the delay between them, when another process changes the dispatcher too.
TRIES = 20
RETRY_DELAY_S = 0.02

MODES = {"native": XDP_MODE_NATIVE, "generic": XDP_MODE_SKB}
MODE_NAMES = {XDP_MODE_NATIVE: "native", XDP_MODE_SKB: "generic", XDP_MODE_HW: "offload"}

Member = namedtuple("Member", "prog_id name priority")
Member.__doc__ = "A program in a dispatcher; those of lower priority run first."

Dispatcher = namedtuple("Dispatcher", "prog_id mode multi_buffer members")
Dispatcher.__doc__ = """The dispatcher of an interface: its program id, its attach mode
("native", "generic"), whether it supports multi-buffer packets, its `Member`s in the order in
which they run."""

libxdp_set_print(<void *>xdpcap_log_message)


def _library_messages():
    """libxdp's log messages since the last call, on one line."""
    text = xdpcap_library_log.decode("utf-8", "replace")
    xdpcap_library_log[0] = 0
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


cdef object _hint(str known):
    messages = _library_messages()
    return known or (f"libxdp: {messages}" if messages else "")


# -- listing --------------------------------------------------------------------------------

def find(int ifindex):
    """The libxdp dispatcher on an interface as `Dispatcher`; None when there is none.

    A single program of this name is no dispatcher.  Raises KernelError, and UsageError for a
    dispatcher that can't be read.
    """
    cdef xdp_multiprog *mp
    other = attached_program(ifindex)
    if other is None or other.name != DISPATCHER_NAME.decode():
        return None
    leaks = Leaks()
    mp = _open(ifindex, leaks)
    if mp == NULL:
        return None
    try:
        if xdp_multiprog__is_legacy(mp):
            messages = _library_messages()
            if not messages:
                return None
            raise UsageError(
                f"the program xdp_dispatcher (id {other.prog_id}) is attached and libxdp can't read "
                f"its members ({messages}); they are pinned in bpffs, "
                "`mount -t bpf bpf /sys/fs/bpf`")
        return Dispatcher(
            xdp_program__id(xdp_multiprog__main_prog(mp)),
            MODE_NAMES.get(xdp_multiprog__attach_mode(mp), "?"),
            bool(xdp_multiprog__xdp_frags_support(mp)), _members(mp))
    finally:
        xdp_multiprog__close(mp)
        leaks.close()


cdef xdp_multiprog *_open(int ifindex, leaks) except? NULL:
    """The programs on an interface, NULL when there are none.

    Retries while another process swaps dispatchers: the pins of the old one are gone then, so
    that it looks like a single program.
    """
    cdef xdp_multiprog *mp
    for attempt in range(TRIES):
        _library_messages()
        mp = xdp_multiprog__get_from_ifindex(ifindex)
        err = libxdp_get_error(mp)
        if err in (-_errno.ENOENT, -_errno.ENODEV):
            return NULL
        if err:
            raise KernelError(f"xdp_multiprog__get_from_ifindex({ifindex})", err, _hint(""))
        main = xdp_multiprog__main_prog(mp)
        leaks.named([xdp_program__id(main), *(member.prog_id for member in _members(mp))])
        unpinned = xdp_multiprog__is_legacy(mp) and xdp_program__name(main) == DISPATCHER_NAME
        if not unpinned or attempt == TRIES - 1:
            return mp
        xdp_multiprog__close(mp)
        sleep(RETRY_DELAY_S)


cdef list _members(xdp_multiprog *mp):
    cdef xdp_program *prog = NULL
    found = []
    while True:
        prog = xdp_multiprog__next_prog(prog, mp)
        if prog == NULL:
            return found
        found.append(Member(xdp_program__id(prog),
                            xdp_program__name(prog).decode("ascii", "replace"),
                            xdp_program__run_prio(prog)))


cdef xdp_program *_member(xdp_multiprog *mp, uint32_t prog_id) noexcept:
    """The program of this id, alone on the interface or in its dispatcher; or NULL."""
    cdef xdp_program *prog = NULL
    if xdp_multiprog__is_legacy(mp):
        prog = xdp_multiprog__main_prog(mp)
        return prog if xdp_program__id(prog) == prog_id else NULL
    while True:
        prog = xdp_multiprog__next_prog(prog, mp)
        if prog == NULL or xdp_program__id(prog) == prog_id:
            return prog


def freplace_errno(str path not None, uint32_t dispatcher_id, str name="xdpcap_record"):
    """0 when this kernel loads `path` as an extension of that dispatcher, else the errno.

    Nothing is attached.  Without this check libxdp would fall back to attaching without a
    dispatcher, and report that the interface has a program already.
    """
    cdef bpf_object *object = bpf_object__open_file(path.encode(), NULL)
    cdef bpf_program *program
    cdef int target = -1
    if object == NULL:
        raise KernelError(f"bpf_object__open_file({path})", errno)
    try:
        program = bpf_object__find_program_by_name(object, name.encode())
        target = bpf_prog_get_fd_by_id(dispatcher_id)
        if target < 0:
            return errno
        function = DISPATCHER_NAME
        err = bpf_program__set_attach_target(program, target, function)
        if err:
            return -err
        bpf_program__set_type(program, BPF_PROG_TYPE_EXT)
        bpf_program__set_expected_attach_type(program, 0)
        return -bpf_object__load(object)
    finally:
        if target >= 0:
            close_fd(target)
        bpf_object__close(object)


# -- leaving --------------------------------------------------------------------------------

def leave(int ifindex, uint32_t prog_id):
    """Remove one program from an interface's dispatcher; the others keep running.

    The dispatcher is detached with its last member.  Returns False when the program was not a
    member.  Raises KernelError.
    """
    cdef int err = 0
    for _ in range(TRIES):
        err = _leave(ifindex, prog_id)
        if err not in (-_errno.ENOENT, -_errno.EBUSY):
            break
        # Another process swapped dispatchers meanwhile.
        sleep(RETRY_DELAY_S)
    if err < 0:
        raise KernelError(f"xdp_program__detach(id {prog_id}, ifindex {ifindex})", err,
                          _hint(_leave_hint(-err)))
    return err > 0


cdef int _leave(int ifindex, uint32_t prog_id) except? -1:
    """1 when the program was removed, 0 when it was not a member, else -errno."""
    cdef xdp_multiprog *mp
    cdef xdp_program *prog
    cdef xdp_attach_mode mode
    cdef int err
    leaks = Leaks()
    mp = _open(ifindex, leaks)
    if mp == NULL:
        return 0
    try:
        prog = _member(mp, prog_id)
        if prog == NULL:
            return 0
        mode = xdp_multiprog__attach_mode(mp)
        with nogil:
            err = xdp_program__detach(prog, ifindex, mode, 0)
        return err if err else 1
    finally:
        xdp_multiprog__close(mp)
        leaks.close()


cdef str _leave_hint(int number):
    return {
        _errno.EPERM: "needs root, as libxdp looks up programs by id",
        _errno.EACCES: "needs root, as only root can read the members' pins",
    }.get(number, "")


def pinned_id(str path not None):
    """The id of the program pinned at `path`; 0 when there is none."""
    cdef bpf_prog_info info
    cdef uint32_t size = sizeof(info)
    cdef int fd = bpf_obj_get(os.fsencode(path))
    if fd < 0:
        return 0
    memset(&info, 0, sizeof(info))
    err = bpf_obj_get_info_by_fd(fd, &info, &size)
    close_fd(fd)
    return 0 if err else info.id


# -- joining --------------------------------------------------------------------------------

@cython.no_gc_clear
cdef class DispatchedProgram(Program):
    """A recording program that is a member of libxdp's dispatcher.

    Parameters and use as for `Program`, but it is loaded only in attach(): an extension is
    loaded for the dispatcher that it joins.  Members after it run for the packets that it
    passes, which are those of queues without a socket.
    """

    cdef xdp_program *member
    cdef bint joining           # without the GIL
    cdef readonly uint32_t prog_id

    def _load(self):
        cdef xdp_program_opts opts
        cdef int action
        name = bpf_program__name(self.program)
        if bpf_object__btf(self.object) == NULL:
            raise UsageError(f"{self.path} has no BTF, which members of libxdp's dispatcher "
                             "need; compile it with -g")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.obj = self.object
        opts.prog_name = name
        self.member = xdp_program__create(&opts)
        if self.member == NULL:
            raise KernelError(f"xdp_program__create({self.path})", errno, _hint(""))
        if self.foreign:
            return  # libxdp uses its XDP_RUN_CONFIG, or defaults
        xdp_program__set_run_prio(self.member, RUN_PRIORITY)
        for action in (XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT):
            xdp_program__set_chain_call_enabled(self.member, action, action == XDP_PASS)

    def attach(self, int ifindex, str mode not None, *, bint link=True, bint multi_buffer=False,
               object priority=None):
        """Join the dispatcher, which is attached in `mode` ("native", "generic").

        `multi_buffer`: declare multi-buffer support; the dispatcher has it if all members
        have.  `priority`: its place among them, None for the program's own.  `link` is
        ignored.  May be called once; raises KernelError and leaves the dispatcher unchanged.
        """
        cdef int err
        cdef xdp_attach_mode attach_mode = MODES[mode]
        self._check_open()
        if self.log != NULL or self.fd >= 0:
            raise ValueError("attach() may be called once")
        self._set_log_buffers()
        if priority is not None:
            xdp_program__set_run_prio(self.member, priority)
        xdp_program__set_xdp_frags_support(self.member, multi_buffer)
        for _ in range(TRIES):
            err = self._join(ifindex, attach_mode)
            if err != -_errno.EBUSY:
                break
            sleep(RETRY_DELAY_S)
        if err and bpf_program__fd(self.program) < 0 and self.log[0]:
            raise self._load_error(err)
        if err:
            raise KernelError(f"joining libxdp's dispatcher ({mode}, ifindex {ifindex})", err,
                              _hint(_join_hint(-err, mode)))
        self._take_descriptors()
        self.prog_id = xdp_program__id(self.member)
        self.ifindex = ifindex
        self.attach_mode = mode

    @property
    def priority(self):
        """The program's priority: members of lower priority run first."""
        self._check_open()
        return xdp_program__run_prio(self.member)

    cdef int _join(self, int ifindex, xdp_attach_mode mode) except? -1:
        cdef int err
        leaks = Leaks()
        present = find(ifindex)
        if present is not None:
            leaks.named([present.prog_id, *(member.prog_id for member in present.members)])
        _library_messages()
        self.joining = True
        with nogil:
            err = xdp_program__attach(self.member, ifindex, mode, 0)
        self.joining = False
        leaks.close()
        return err

    def detach(self):
        """Leave the dispatcher; returns False when the program was no longer a member.

        Safe to call again.  Raises KernelError.
        """
        if self.attach_mode is None:
            return False
        self.forget()
        return leave(self.ifindex, self.prog_id)

    def forget(self):
        """Treat the program as removed; another process has removed it."""
        self.attach_mode = None

    def close(self):
        """Leave and unload; safe to call again.  ValueError while another thread joins."""
        if self.joining:
            raise ValueError(f"the program {self.name} is joining a dispatcher in another thread")
        try:
            self.detach()
        finally:
            if self.member != NULL:
                xdp_program__close(self.member)
                self.member = NULL
            Program.close(self)

    def __dealloc__(self):
        if self.member != NULL:
            xdp_program__close(self.member)


cdef str _join_hint(int number, str mode):
    if number == _errno.EBUSY:
        return ""  # libxdp's log message gives the reason
    return {
        _errno.E2BIG: "it already has ten members, the maximum; `xdp-loader unload` one",
        _errno.ERANGE: "with this program in it the MTU is too large; multi-buffer packets need "
                       "Linux 6.6 and support in all members",
    }.get(number) or attach_hint(number, mode)
