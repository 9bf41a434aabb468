from typing import NamedTuple, Protocol, type_check_only

VERDICTS: tuple[str, ...]

class Verdicts(NamedTuple):
    redirected: int = 0
    passed: int = 0
    dropped: int = 0
    filtered: int = 0
    sampled_out: int = 0
    mirrored: int = 0
    ring_lost: int = 0
    redirected_bytes: int = 0
    passed_bytes: int = 0
    dropped_bytes: int = 0
    filtered_bytes: int = 0
    sampled_out_bytes: int = 0
    mirrored_bytes: int = 0
    ring_lost_bytes: int = 0

@type_check_only
class CopyRings(Protocol):
    @property
    def descriptors(self) -> list[tuple[int, int]]: ...
    @property
    def count(self) -> int: ...

def bind_rings(rings_fd: int, bound_fd: int, queue: int, ring: CopyRings) -> None: ...
def read_verdicts(fd: int, queue_count: int) -> list[Verdicts]: ...
def pin(fd: int, path: str) -> None: ...
def read_pinned_verdicts(path: str) -> list[Verdicts]: ...
def program_id(fd: int) -> int: ...
def load_time_ns(prog_id: int) -> int: ...
def is_loaded(prog_id: int) -> bool: ...
