from xdpcap.rings.xsk import Xsk

MODES: dict[str, int]

class RingLoop:
    @property
    def xsk(self) -> Xsk: ...
    def __init__(
        self,
        xsk: Xsk,
        mode: str,
        *,
        batch: int = 64,
        busy_poll: bool = False,
        pauses: bool = True,
        frame: bytes | None = None,
    ) -> None: ...
    def run(self) -> int: ...
    def request_stop(self) -> None: ...
    @property
    def counters(self) -> dict[str, int]: ...
    def close(self) -> None: ...
