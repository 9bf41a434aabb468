from collections.abc import Iterable

from xdpcap.packets.packet_set import PacketSet

class Rewriter:
    def __init__(
        self,
        dst_mac: bytes | str | None = None,
        src_mac: bytes | str | None = None,
        vlan: str | None = None,
        map_ip: Iterable[str] = (),
        seed: int | None = None,
        pad: bool = False,
    ) -> None: ...
    def apply(self, packets: PacketSet) -> None: ...
