from typing import NamedTuple

from xdpcap.programs.counters import CopyRings, Verdicts

class Observed(NamedTuple):
    prog_id: int
    name: str

class Observer:
    @property
    def fd(self) -> int: ...
    @property
    def counters_fd(self) -> int: ...
    @property
    def queue_count(self) -> int: ...
    @property
    def attach_mode(self) -> str: ...
    @property
    def observed(self) -> Observed: ...
    def __init__(
        self,
        path: str,
        prog_id: int,
        ifindex: int,
        queue_count: int,
        *,
        at: str = "exit",
        clock: str = "monotonic",
        snaplen: int = 0,
        whole_length: bool = True,
    ) -> None: ...
    @property
    def has_counters(self) -> bool: ...
    def verdicts(self) -> list[Verdicts]: ...
    def bind_ring(self, queue: int, ring: CopyRings) -> None: ...
    def detach(self) -> None: ...
    def close(self) -> None: ...

UNSUPPORTED: str
