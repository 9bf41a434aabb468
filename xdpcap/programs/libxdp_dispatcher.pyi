from typing import NamedTuple

from xdpcap.programs.program import Program

RUN_PRIORITY: int

class Member(NamedTuple):
    prog_id: int
    name: str
    priority: int

class Dispatcher(NamedTuple):
    prog_id: int
    mode: str
    multi_buffer: bool
    members: list[Member]

def find(ifindex: int) -> Dispatcher | None: ...
def freplace_errno(path: str, dispatcher_id: int, name: str = "xdpcap_record") -> int: ...
def leave(ifindex: int, prog_id: int) -> bool: ...
def pinned_id(path: str) -> int: ...

class DispatchedProgram(Program):
    @property
    def prog_id(self) -> int: ...
    def attach(
        self,
        ifindex: int,
        mode: str,
        *,
        link: bool = True,
        multi_buffer: bool = False,
        priority: int | None = None,
    ) -> None: ...
    @property
    def priority(self) -> int: ...
    def detach(self) -> bool | None: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...
