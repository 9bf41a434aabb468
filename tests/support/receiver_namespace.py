"""Run a test's body inside its lab's receiver, where interfaces and queues are its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xdpcap.bench.lab import in_netns


def in_receiver(test: Callable[..., None]) -> Callable[..., None]:
    """A test whose body runs in a thread inside `lab.rx_ns`; it needs the fixture `lab`."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        in_netns(fixtures["lab"].rx_ns, test, **fixtures)

    return run
