from typing import NamedTuple

from xdpcap.programs.program import Program

class Run(NamedTuple):
    action: int
    metadata: bytes
    packet: bytes

def run_once(program: Program, packet: bytes, *, queue: int = 0, ifindex: int = 0) -> Run: ...
def run_action(program: Program, packet: bytes) -> int: ...
def run_ns(
    program: Program, packet: bytes, repeat: int, *, queue: int = 0, ifindex: int = 0
) -> int: ...
