from xdpcap.programs.program import Program

COPY_MAX: int
PROGRAM: str

class NicProgram(Program):
    def set_snaplen(self, snaplen: int) -> None: ...
    @property
    def copied_count(self) -> int: ...
