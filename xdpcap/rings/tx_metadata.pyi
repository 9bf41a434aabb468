from typing import final

from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

@final
class MetadataUmem(Umem):
    def close(self) -> None: ...

class MetadataXsk(Xsk): ...

def encode(launch_ns: int) -> bytes: ...
