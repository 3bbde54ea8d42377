"""Writes what is generated: dashboards where they are wanted, and the rules and metrics page that the tree holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from grafanalib.core import Dashboard

from dashboards import lint, stack_config
from dashboards.campaign import campaign
from dashboards.comparison import comparison
from dashboards.dialect import INFLUXDB, PROMETHEUS
from dashboards.health import exporter_and_host
from dashboards.live import live_run
from dashboards.metrics_page import metrics_page
from dashboards.normalise import text
from dashboards.rules import FOLDER, rule_files

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "live-run": partial(live_run, PROMETHEUS),
    "live-run-influxdb": partial(live_run, INFLUXDB),
    "campaign": partial(campaign, PROMETHEUS),
    "campaign-influxdb": partial(campaign, INFLUXDB),
    "comparison": partial(comparison, PROMETHEUS),
    "comparison-influxdb": partial(comparison, INFLUXDB),
    "exporter-and-host": partial(exporter_and_host, PROMETHEUS),  # of which InfluxDB holds nothing: no run's samples
}
"""Each dashboard's file name without its ending, with the function that makes it."""


def build(directory: Path) -> list[Path]:
    """Write every dashboard as a flat JSON file into a directory, which is made; returns their paths.

    OSError passes through.
    """
    return _write(directory, {f"{name}.json": text(make()) for name, make in DASHBOARDS.items()})


def committed() -> dict[str, str]:
    """Return what the tree holds of generated files: path below its root, text."""
    rules = {str(FOLDER / name): text for name, text in rule_files().items()}
    return rules | stack_config.committed() | {"docs/metrics.md": metrics_page()}


def regenerate(root: Path) -> list[Path]:
    """Write the generated files of the tree anew; returns their paths."""
    return _write(root, committed())


def check(root: Path) -> list[str]:
    """Name the generated files of the tree that are missing or differ from what would be written."""
    return [
        name
        for name, content in committed().items()
        if not (root / name).is_file() or (root / name).read_text() != content
    ]


def faults(directory: Path | None) -> list[str]:
    """Name what is wrong: with the dashboards by the rules of `dashboards.lint`, and with the files of a directory.

    A file there that is missing, or is not what `build` would write now, is a fault.
    """
    found = []
    for name, make in DASHBOARDS.items():
        wanted = text(make())
        found += [f"{name}: {fault}" for fault in lint.faults(json.loads(wanted))]
        path = directory / f"{name}.json" if directory else None
        if path and (not path.is_file() or path.read_text() != wanted):
            found.append(f"{path}: is not what `migrascope dashboards build` writes now")
    return found


def _write(directory: Path, files: dict[str, str]) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        paths.append(path)
    return paths


if __name__ == "__main__":
    regenerate(Path(__file__).parent.parent)
