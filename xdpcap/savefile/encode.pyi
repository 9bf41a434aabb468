class RecordEncoder:
    def __init__(
        self,
        format: str,
        *,
        snaplen: int = 0,
        interface_id: int = 0,
        queue: int = 0,
        hash_algorithm: int = -1,
    ) -> None: ...
    def encode(
        self,
        packet: bytes,
        ts_ns: int,
        *,
        origlen: int | None = None,
        drop_count: int = 0,
        hash: int | None = None,
        verdict: int | None = None,
        tag: int = 0,
    ) -> bytes: ...
