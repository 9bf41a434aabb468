"""The ledger for Prometheus, over HTTP: `xdpcap record --prometheus`.

A scrape asks the main thread for the rows as they are now, and waits for them a moment; the
workers are not asked anything, and no thread but the main one reads their counters.  A main thread
that does not answer leaves the scraper with its last rows, and their time.

Owner: the main thread, which makes it, publishes and closes; the server's threads only read what
was published.  Frees: close().

Imported when it is asked for only: the library takes a while.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from xdpcap import __version__
from xdpcap.errors import KernelError, hint
from xdpcap.host.threads import ThreadGroup
from xdpcap.options.listen_address import ListenAddress
from xdpcap.programs.counters import VERDICTS
from xdpcap.record.ledger import QueueAccount

log = logging.getLogger(__name__)

# Rows of this age are served again: whoever scrapes like mad costs the main thread no more.
FRESH_S = 0.1
# How long a scrape waits for the main thread.
ANSWER_S = 1.0
# A client that says nothing is let go.
CLIENT_TIMEOUT_S = 10.0
# How often the server looks whether it is to end.
POLL_S = 0.1

QUEUE = ("interface", "queue")
# Name, help, and the field of a row of the ledger.
COUNTERS = (
    ("xdpcap_received_packets", "Packets that the worker took off its ring.", "received"),
    ("xdpcap_received_bytes", "Their bytes.", "bytes_received"),
    ("xdpcap_written_packets", "Packets that are in the files.", "written"),
    ("xdpcap_written_bytes", "Their bytes as kept, without the format's headers.", "bytes_written"),
    ("xdpcap_file_bytes", "Bytes that went to the files, headers included.", "bytes_to_disk"),
    ("xdpcap_files", "Files begun.", "files"),
    (
        "xdpcap_beyond_limit_packets",
        "Packets that came after a limit was reached, in no file as wished.",
        "beyond_limit",
    ),
    (
        "xdpcap_device_stamped_packets",
        "Packets that the NIC stamped, of those received; the others have the host's time.",
        "device_stamped",
    ),
    (
        "xdpcap_fill_ring_empty",
        "How often the kernel found no free frame; why packets are in rx_dropped.",
        "fill_ring_empty",
    ),
)
GAUGES = (
    ("xdpcap_in_flight_packets", "Packets in a ring or in a block now.", "in_flight"),
    ("xdpcap_unaccounted_packets", "What the ledger can't explain: 0.", "unaccounted"),
    ("xdpcap_ring_fill_descriptors", "Descriptors that wait in the receive ring.", "ring_fill"),
    ("xdpcap_ring_size_descriptors", "Descriptors that the receive ring holds.", "ring_size"),
)
# Places where packets that were to be recorded are lost.
PLACES = ("rx_dropped", "rx_ring_full", "ring_lost", "write_dropped")


@dataclass(frozen=True)
class Snapshot:
    """The ledger at one time; `uncovered` are packets of queues that are not recorded."""

    time_s: float = 0.0
    rows: Sequence[QueueAccount] = ()
    uncovered: Mapping[str, int] = field(default_factory=dict)


class Exporter:
    """Serves what is published, from serve() on.  Raises KernelError where it can't listen."""

    def __init__(self, address: ListenAddress) -> None:
        self._began_s = time.time()
        self._snapshot = Snapshot()
        self._changed = threading.Condition()
        self._asked = False
        self._ask: Callable[[], None] = _nobody
        registry = CollectorRegistry()
        registry.register(self)  # type: ignore[arg-type]
        self._server = _listen(address)
        self._server.set_app(make_wsgi_app(registry))
        # None of its threads uses what is freed while it runs.
        self._threads = ThreadGroup()
        self.failed = False

    def serve(self, ask: Callable[[], None]) -> None:
        """Answer from now on; `ask` wakes the main thread, from any thread.

        Raises XdpcapError where there is no thread for it.
        """
        self._ask = ask
        self._threads.add(
            "prometheus",
            lambda: self._server.serve_forever(POLL_S),
            stop=self._server.shutdown,
            failed=self._fail,
            may_stay=True,
        )
        self._threads.start()

    def _fail(self, text: str) -> None:
        self.failed = True
        log.warning("--prometheus: nothing is served any more: %s", text)

    @property
    def asked(self) -> bool:
        """Whether somebody waits for what publish() brings."""
        return self._asked

    def publish(self, rows: Sequence[QueueAccount], uncovered: Mapping[str, int]) -> None:
        """These are the rows now."""
        with self._changed:
            self._snapshot = Snapshot(time.time(), tuple(rows), dict(uncovered))
            self._asked = False
            self._changed.notify_all()

    def close(self) -> None:
        """Listen no more; safe to call again.  Waits for no client."""
        self._threads.close()
        self._server.server_close()

    def _current(self) -> Snapshot:
        with self._changed:
            before = self._snapshot
            if time.time() - before.time_s > FRESH_S:
                self._asked = True
                self._ask()
                self._changed.wait_for(lambda: self._snapshot is not before, ANSWER_S)
            return self._snapshot

    def collect(self) -> Iterator[Metric]:
        """All families, as prometheus_client asks for them; in a thread of the server's."""
        snapshot = self._current()
        yield InfoMetricFamily(
            "xdpcap_build",
            "The recorder and the kernel it runs on.",
            value={"version": __version__, "kernel": os.uname().release},
        )
        yield GaugeMetricFamily(
            "xdpcap_start_time_seconds", "When it began, since 1970.", value=self._began_s
        )
        if not snapshot.time_s:
            return
        yield GaugeMetricFamily(
            "xdpcap_ledger_time_seconds",
            "When these figures were read, since 1970; older than a scrape: the recorder hangs.",
            value=snapshot.time_s,
        )
        yield from _queues(snapshot.rows)
        yield from _interfaces(snapshot)


def _queues(rows: Sequence[QueueAccount]) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "xdpcap_packets",
        "Packets by what the program did with them.",
        None,
        (*QUEUE, "verdict"),
    )
    size = CounterMetricFamily("xdpcap_bytes", "Their bytes.", None, (*QUEUE, "verdict"))
    lost = CounterMetricFamily(
        "xdpcap_lost_packets",
        "Packets to be recorded that are in no file, by the place where they were lost.",
        None,
        (*QUEUE, "place"),
    )
    info = InfoMetricFamily("xdpcap_queue", "How packets leave the kernel.", None, QUEUE)
    for row in rows:
        labels = [row.interface, str(row.queue)]
        for verdict in VERDICTS:
            packets.add_metric([*labels, verdict], getattr(row, verdict))
            size.add_metric([*labels, verdict], getattr(row, f"{verdict}_bytes"))
        for place in PLACES:
            lost.add_metric([*labels, place], getattr(row, place))
        how = {"attach_mode": row.attach_mode, "zero_copy": str(row.zero_copy).lower()}
        info.add_metric(labels, how)
    yield from (packets, size, lost, info)
    for kind, described in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for name, text, source in described:
            family = kind(name, text, None, QUEUE)
            for row in rows:
                family.add_metric([row.interface, str(row.queue)], getattr(row, source))
            yield family


def _interfaces(snapshot: Snapshot) -> Iterator[Metric]:
    passed = CounterMetricFamily(
        "xdpcap_uncovered_packets",
        "Packets of queues that are not recorded: they went to the kernel stack.",
        None,
        ("interface",),
    )
    for name, count in snapshot.uncovered.items():
        passed.add_metric([name], count)
    missed = CounterMetricFamily(
        "xdpcap_missed_packets",
        "Packets that the interface lost before the program, where it tells.",
        None,
        ("interface",),
    )
    # The same in each row of an interface.
    told = {row.interface: row.missed for row in snapshot.rows if row.missed is not None}
    for name, count in told.items():
        missed.add_metric([name], count)
    yield from (passed, missed)


# -- HTTP -----------------------------------------------------------------------------------


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without http.server's question to the DNS who we are."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not worth a word."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        """Standard error belongs to the recording."""


def _listen(address: ListenAddress) -> _Server:
    family, _, _, _, target = socket.getaddrinfo(
        *address, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    kind = type("Server", (_Server,), {"address_family": family})
    try:
        server: _Server = kind(target, _Handler)
    except OSError as exc:
        raise KernelError(
            f"--prometheus {address}: bind",
            exc.errno or 0,
            hint(exc.errno or 0, "listen"),
        ) from None
    return server


def _nobody() -> None:
    """Asked before anybody can answer."""
