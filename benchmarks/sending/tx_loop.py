"""The bare sending loop as a process: `python -m benchmarks.sending.tx_loop INTERFACE FILE`.

The replay's own memory, socket and rings (`TxAttachment`, `Transmitter`), with `run_bare`
instead of `run`: the packets of the file are copied to the UMEM once and posted repeatedly.
Ends at SIGINT, and prints its count as one JSON object.
"""

from __future__ import annotations

import json
import signal
import sys
import threading

from benchmarks.recorders import BenchmarkError
from xdpcap import net
from xdpcap.host import privileges
from xdpcap.options.replay import ReplayOptions
from xdpcap.packets.packet_set import PacketSet
from xdpcap.replay.attachment import TxAttachment
from xdpcap.replay.plan import divide
from xdpcap.replay.transmitter import Transmitter
from xdpcap.savefile.reader import read_packets


def main(interface: str, file: str) -> None:
    """Send the packets of `file` through queue 0 of `interface` until SIGINT."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    privileges.raise_memlock()
    options = ReplayOptions(files=(file,), interface=interface, top_speed=True)
    packets = PacketSet()
    for packet in read_packets(file):
        packets.append(packet.data)
    attachment = TxAttachment(options, net.get_link(interface), (0,))
    try:
        transmitter = Transmitter(attachment.xsks[0], batch=options.batch)
        if not transmitter.load(packets, divide(packets, 1)[0], place=True):
            raise BenchmarkError(f"{file} does not fit the UMEM")
        worker = threading.Thread(target=transmitter.run_bare, name="bare loop")
        worker.start()
        signal.sigwait(signals)
        transmitter.request_stop()
        worker.join()
        transmitter.drain()
        print(json.dumps({"sent": transmitter.counters[2]}))
        transmitter.close()
    finally:
        attachment.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
