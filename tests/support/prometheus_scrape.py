"""Scrape a recording's metrics, read back by Prometheus's own parsers."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

# A sample's name and its labels, sorted.
Key = tuple[str, tuple[tuple[str, str], ...]]


def get(url: str, accept: str = OPENMETRICS) -> tuple[str, str]:
    """The content type and the text that a scrape of `url` is answered with."""
    # Of this machine: no proxy is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(text: str, content_type: str) -> dict[Key, float]:
    """Every sample of an exposition; one that breaks the format fails the test."""
    return {(s[0], tuple(sorted(s[1].items()))): s[2] for s in _parsed(text, content_type)}


def _parsed(text: str, content_type: str) -> Iterator[tuple]:
    parse = open_metrics if content_type.startswith("application/openmetrics") else text_format
    for family in parse(text):
        assert family.documentation, family.name
        yield from family.samples


def value(found: dict[Key, float], name: str, **labels: str) -> float:
    """One sample."""
    return found[name, tuple(sorted(labels.items()))]
