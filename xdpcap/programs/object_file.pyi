from typing import NamedTuple

class Examined(NamedTuple):
    name: str
    clock: str
    frags: bool
    has_counters: bool
    foreign_counters: bool

def library_messages() -> str: ...
def examine(path: str, name: str = "") -> Examined: ...
