"""Descriptors of BPF programs that a library has opened and forgotten.  A leaf."""

from __future__ import annotations

import os
from collections.abc import Collection


def program_descriptors() -> dict[int, int]:
    """This process's descriptors of BPF programs: number to program id."""
    found = {}
    for number in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{number}") as info:
                ids = [line.split()[1] for line in info if line.startswith("prog_id:")]
            if ids and os.readlink(f"/proc/self/fd/{number}") == "anon_inode:bpf-prog":
                found[int(number)] = int(ids[0])
        except OSError:
            continue  # closed since
    return found


class Leaks:
    """Closes what libxdp before 1.5 leaves open of each program that it looks up.

    xdp_multiprog__from_id() and xdp_program__from_pin() duplicate a descriptor and
    forget the first.  Made before libxdp is called; afterwards `close()` touches only
    descriptors that have come since, of programs that were `named`: those are libxdp's,
    and nobody else in this process opens them.
    """

    def __init__(self) -> None:
        self._before = program_descriptors()
        self._ids: set[int] = set()

    def named(self, ids: Collection[int]) -> None:
        """Programs that libxdp has looked up."""
        self._ids.update(ids)

    def close(self) -> None:
        """Close what was left; what libxdp itself still uses must be closed before."""
        for number, prog_id in program_descriptors().items():
            if number not in self._before and prog_id in self._ids:
                os.close(number)
