from collections.abc import Sequence

from xdpcap.savefile.sink import FileSink

class Simulation:
    @property
    def sink(self) -> FileSink: ...
    def __init__(
        self,
        sink: FileSink,
        templates: Sequence[tuple[int, bytes]],
        *,
        format: str = "pcapng",
        queue: int = 0,
        batch: int = 256,
        flush_interval_s: float = 1.0,
        ring_size: int = 32768,
        frame_size: int = 2048,
    ) -> None: ...
    def run(self) -> int: ...
    def request_stop(self) -> None: ...
    @property
    def made(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def received_bytes(self) -> int: ...
    @property
    def no_meta(self) -> int: ...
    def close(self) -> None: ...
