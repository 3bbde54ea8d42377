"""Rows of the history with figures that are known, for tests of what is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from driver.hardware import Hardware
from driver.scenario import Scenario, strategy_fields
from exporter.index import RunRow
from workload.settings import Workload

SECOND = 1_000_000_000


def a_row(
    number: int, strategy: str = "none", *, outcome: str = "completed", total: float = 2.0, blackout: float = 0.02,
    slowdown: float = 1.5, given: Mapping[str, float | str] | None = None, figures: Mapping[str, float] | None = None,
) -> RunRow:  # fmt: skip
    """A run that settled at 0.2 s/GiB, migrated for `total` seconds and was back at its pace within a second."""
    scenario = Scenario(**{"bandwidth_mib_s": 32, **strategy_fields(strategy)})
    conditions = asdict(scenario) | asdict(Hardware(memory_mib=256)) | asdict(Workload())
    conditions |= {"accelerator": "tcg", "source_qemu": "7.2.22", "destination_qemu": "7.2.22", **(given or {})}
    stop = round(total * SECOND)
    told: dict[str, float | None] = {
        "total_seconds": total,
        "blackout_seconds": blackout,
        "settle_seconds_per_gib_mean": 0.2,
        "migrate_seconds_per_gib_mean": 0.2 * slowdown,
        "recover_seconds_per_gib_mean": 0.2,
        "migrate_start_ns": 0,
        "stop_ns": stop,
        "resume_ns": stop + round(blackout * SECOND),
        "source_cpu_seconds": 3.0,
        "destination_cpu_seconds": 1.0,
        "transferred_bytes": 512.0 * (1 << 20),
        "source_extra_resident_bytes": 4096.0,
    }
    return RunRow(
        run=f"20261124-000000-{number:04x}",
        kind="migration",
        campaign="night-1",
        scenario=scenario.name,
        strategy=scenario.strategy,
        outcome=outcome,
        started_ns=number * SECOND,
        phases={"end": stop + SECOND},
        conditions=conditions,
        figures=told | dict(figures or {}) if outcome == "completed" else {},
    )


def rows(strategy: str, totals: Sequence[float], first: int = 0, **more: float) -> list[RunRow]:
    """Completed runs of one strategy with these total times."""
    return [a_row(first + place, strategy, total=total, **more) for place, total in enumerate(totals)]  # type: ignore[arg-type] # figures only


def failed(strategy: str, count: int, first: int = 0, outcome: str = "not_converged") -> list[RunRow]:
    """Runs of one strategy without a completed migration."""
    return [a_row(first + place, strategy, outcome=outcome) for place in range(count)]
