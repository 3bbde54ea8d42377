"""Every metric once: name, type, labels, help and where its value comes from. Dashboards, rules and docs follow."""

from __future__ import annotations

from exporter.metric import Metric
from exporter.metrics.campaign import campaign_metrics
from exporter.metrics.disk import disk_metrics
from exporter.metrics.guest import guest_metrics
from exporter.metrics.host import host_metrics
from exporter.metrics.migration import migration_metrics
from exporter.metrics.mirror import mirror_metrics
from exporter.metrics.own import own_metrics, process_metrics
from exporter.metrics.qemu import qemu_metrics
from exporter.metrics.run import run_metrics
from exporter.metrics.verdict import verdict_metrics

CATALOGUE: tuple[Metric, ...] = (
    *run_metrics(), *guest_metrics(), *qemu_metrics(), *migration_metrics(), *disk_metrics(), *verdict_metrics(),
    *campaign_metrics(), *host_metrics(), *process_metrics(), *own_metrics(), *mirror_metrics(),
)  # fmt: skip

BY_KEY: dict[str, Metric] = {metric.key: metric for metric in CATALOGUE}
"""By what the value comes from: exporter, dashboards, rules and pages ask by that, so that a name stands here alone."""
