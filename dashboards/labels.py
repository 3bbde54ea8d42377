"""Names of runs that stand side by side: what tells each from the others, and what all have in common."""

from __future__ import annotations

from collections.abc import Sequence

from driver.record import RunRecord


def labels(records: Sequence[RunRecord]) -> list[str]:
    """Name each run of a report: its scenario, its workload where these differ, and a number where both are alike."""
    workloads = [record.workload.name if record.workload else "" for record in records]
    several = len(set(workloads)) > 1
    scenarios, _ = short_names([record.scenario_name for record in records])
    names = [
        f"{scenario} {workload}".strip() if several else scenario
        for scenario, workload in zip(scenarios, workloads, strict=True)
    ]
    seen: dict[str, int] = {}
    labelled = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        labelled.append(f"{name} #{seen[name]}" if names.count(name) > 1 else name)
    return labelled


def short_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Take out of scenarios' names what all have in common; returns the rest of each, and the common part."""
    parts = [name.split(".") for name in names]
    common = [part for part in parts[0][1:] if all(part in other[1:] for other in parts)] if len(names) > 1 else []
    return [".".join(part for part in own if part not in common) for own in parts], " ".join(common)
