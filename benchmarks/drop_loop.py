"""The bare RX-drop loop as a process: `python -m benchmarks.drop_loop INTERFACE`.

The recorder's own program, memory, rings and waiting (`Attachment`, `Capture`), with
`run_drop` instead of `run`: packets are received and their frames returned.  Prints "ready" on
standard error, ends at SIGINT, and prints its counters as one JSON object.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

from xdpcap import net
from xdpcap.host import privileges
from xdpcap.options.record import RecordOptions
from xdpcap.record.attachment import Attachment
from xdpcap.record.capture import Capture
from xdpcap.record.interface import SETTLE_S
from xdpcap.savefile.sink import FileSink

# The loop needs a sink, but writes nothing to it.
SINK_BLOCK_BYTES = 4096
# Between two reads of a ring that is still being drained.
POLL_S = 0.01


def main(interface: str) -> None:
    """Receive and drop packets of queue 0 of `interface` until SIGINT."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    privileges.raise_memlock()
    options = RecordOptions((interface,), output="nowhere")
    attachment = Attachment(options, net.get_link(interface), (0,), net.rx_queue_count(interface))
    try:
        sink = FileSink(SINK_BLOCK_BYTES, 2, "sync")
        capture = Capture(attachment.xsks[0], sink, batch=options.batch)
        worker = threading.Thread(target=capture.run_drop, name="drop loop")
        worker.start()
        attachment.start()
        print("ready", file=sys.stderr, flush=True)
        signal.sigwait(signals)
        attachment.detach()
        time.sleep(SETTLE_S)
        while capture.waiting:
            time.sleep(POLL_S)
        capture.request_stop()
        worker.join()
        print(json.dumps(_account(attachment, capture)))
        capture.close()
        sink.close()
    finally:
        attachment.close()


def _account(attachment: Attachment, capture: Capture) -> dict[str, int]:
    statistics = attachment.xsks[0].statistics()
    return {
        "redirected": attachment.program.verdicts()[0].redirected,
        "received": capture.received,
        "received_bytes": capture.received_bytes,
        "rx_dropped": statistics["rx_dropped"],
        "rx_ring_full": statistics["rx_ring_full"],
        "wait_count": capture.wait_count,
    }


if __name__ == "__main__":
    main(sys.argv[1])
