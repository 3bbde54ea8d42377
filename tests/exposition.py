"""What an exporter shows of a recorded run, as text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from exporter.selfmetrics import SelfMetrics
from exporter.sinks.exposition import text
from exporter.sinks.prometheus import PrometheusSink
from tests.replay import recording


def exposition(capture: str = "10.0-m-postcopy-rescue") -> str:
    """Play a capture to its end, and scrape once."""
    run = recording(capture)
    sink, registry = PrometheusSink(SelfMetrics(), linger=lambda: 30.0, clock=lambda: 0.0), CollectorRegistry()
    registry.register(sink)
    sink.attach(run.header, run.record)
    for batch in run.batches(1.0):
        sink.take(run.header.run, batch)
    return text(registry).decode()
