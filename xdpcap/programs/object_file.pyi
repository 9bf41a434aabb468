from typing import NamedTuple

class Examined(NamedTuple):
    name: str
    clock: str
    frags: bool
    counts: bool
    foreign_counters: bool

def last_words() -> str: ...
def examine(path: str, name: str = "") -> Examined: ...
