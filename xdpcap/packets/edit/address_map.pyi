from collections.abc import Iterable

from xdpcap.options.addresses import Network

class AddressMap:
    def __init__(
        self, maps: Iterable[tuple[Network, Network]] = (), seed: int | None = None
    ) -> None: ...
    def __getitem__(self, address: bytes, /) -> bytes: ...
