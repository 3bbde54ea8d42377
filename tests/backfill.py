"""What an exporter would have shown, written as OpenMetrics with times, for promtool to make blocks of."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prometheus_client import Metric as ClientMetric

from exporter.catalogue import CATALOGUE
from exporter.metric import OWN, Metric
from tests.asking import Span
from tests.replay import Recording
from tests.stepping import steps

STEP_SECONDS = 0.5
SUMMARY = {
    "blackout_seconds": 0.021, "stop_resume_seconds": 0.02, "longest_silence_seconds": 0.03, "iterations": 5.0,
    "qemu_downtime_seconds": 0.012, "total_seconds": 3.5, "settle_seconds_per_gib_mean": 0.3,
    "settle_seconds_per_gib_p95": 0.35, "migrate_seconds_per_gib_mean": 0.6, "migrate_seconds_per_gib_p95": 0.9,
    "recover_seconds_per_gib_mean": 0.4, "recover_seconds_per_gib_p95": 0.5,
    "cpu_seconds": {"source": {"process": 4.0, "vcpu": 2.0, "migration": 1.0}, "destination": {"process": 1.0}},
}  # fmt: skip
"""Figures such as a summary holds."""


def write_blocks(promtool: Path, folder: Path, recordings: Sequence[Recording], start: float, instance: str) -> Span:
    """Make `folder` a Prometheus' data: all recordings side by side from `start` on, and the exporter's own figures."""
    lines: dict[str, list[str]] = defaultdict(list)
    figures = {each.header.run: SUMMARY for each in recordings}
    now = start
    for now, families in steps(recordings, figures, start, STEP_SECONDS):
        _write(lines, families, now, instance)
        _write(lines, _own_families(now - start), now, instance)
    text = "\n".join(line for family in lines.values() for line in family) + "\n# EOF\n"
    path = folder.with_suffix(".openmetrics")
    path.write_text(text)
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", path, folder], check=True, capture_output=True
    )
    return Span(start=start, end=now)


def _write(lines: dict[str, list[str]], families: Iterable[ClientMetric], now: float, instance: str) -> None:
    for family in families:
        into = lines[family.name]
        if not into:
            into.append(f"# TYPE {family.name} {family.type}")
        for sample in family.samples:
            labels = {"job": "migrascope", "instance": instance} | sample.labels
            into.append(f"{sample.name}{{{_labels(labels)}}} {sample.value} {now:.3f}")


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))


def _own_families(seconds: float) -> Iterable[ClientMetric]:
    """Figures of the exporter, its host and a campaign: each metric with one series, counters rising."""
    words = {"campaign": "night", "strategy": "post-copy", "source": "monitor", "mirror": "influxdb", "vm": "vm0",
             "role": "source", "measurement": "migration", "mode": "user", "resource": "cpu", "part": "run",
             "version": "1", "field": "ram.new"}  # fmt: skip
    for metric in CATALOGUE:
        if metric.measurement not in OWN:
            continue
        family = ClientMetric(metric.family, metric.help, metric.kind)
        labels = {label: words.get(label, "other") for label in metric.labels}
        for suffix, more, value in _values(metric, seconds):
            family.add_sample(metric.family + suffix, labels | more, value)
        yield family


def _values(metric: Metric, seconds: float) -> list[tuple[str, dict[str, str], float]]:
    match metric.kind:
        case "counter":
            return [("_total", {}, seconds)]
        case "info":
            return [("_info", {}, 1.0)]
        case "histogram":
            buckets = [("_bucket", {"le": repr(bound)}, seconds * 50) for bound in metric.buckets]
            return [*buckets, ("_bucket", {"le": "+Inf"}, seconds * 50), ("_count", {}, seconds * 50),
                    ("_sum", {}, seconds)]  # fmt: skip
        case _:
            return [("", {}, 1.0)]
