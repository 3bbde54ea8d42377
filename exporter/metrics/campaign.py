"""Campaigns as their drivers have written them."""

from __future__ import annotations

from exporter.metric import Metric


def campaign_metrics() -> list[Metric]:
    """List the metrics of campaigns."""

    def of(name: str, kind: str, text: str, field: str, *labels: str) -> Metric:
        return Metric(
            name=f"migrascope_campaign_{name}", kind=kind, help=f"{text} (campaigns/ID/state.jsonl)",
            measurement="campaign", field=field, labels=("campaign", *labels),
        )  # fmt: skip

    return [
        of("active", "gauge", "1 while the campaign's driver is at work", "active"),
        of(
            "stopped",
            "gauge",
            "1 once its driver ended in good order: all was run, or somebody wanted no more",
            "stopped",
        ),
        of("planned_runs", "gauge", "Runs that the plan asks for, by strategy", "planned", "strategy"),
        of("runs_total", "counter", "Runs that have ended, by strategy", "finished", "strategy"),
        of("runs_completed_total", "counter", "Those of them whose migration completed", "completed", "strategy"),
        of("runs_not_converged_total", "counter", "Those that reached a limit", "not_converged", "strategy"),
        of("runs_failed_total", "counter", "Those with any other outcome", "failed", "strategy"),
        of("left_runs", "gauge", "Runs still to come, those of parked cells left out", "left"),
        of("cells", "gauge", "Cells of the plan", "cells"),
        of("parked_cells", "gauge", "Cells parked after failures in a row", "parked"),
        of("eta_seconds", "gauge", "Estimated time to the campaign's end, learned from its finished runs", "eta"),
        of("last_change_timestamp_seconds", "gauge", "When a run last began or ended, in Unix time", "last_change"),
    ]
