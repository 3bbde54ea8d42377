"""Generates everything anew under other names of metrics, in a process of its own: names are read at import."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from unittest.mock import patch

import exporter.metrics
from exporter.metric import PREFIX, Metric

EXPOSITION = "metrics.txt"
RENAMED = "renamed.json"


def other_name(metric: Metric) -> str:
    """Another name of the same length, so that generated lines break where they did; unit and suffix stay."""
    ending = metric.name.removeprefix(metric.family)
    if metric.unit:
        ending = f"_{metric.unit}{ending}"
    stem = metric.name.removesuffix(ending).removeprefix(PREFIX)
    return PREFIX + codecs.encode(stem, "rot13") + ending


def generate(folder: Path, rename: Callable[[Metric], Metric]) -> None:
    """Write rules, pages, dashboards and the exposition of a recorded run, and which name stands for which."""
    for module in iter_modules(exporter.metrics.__path__):
        rows = import_module(f"exporter.metrics.{module.name}")
        for name in [name for name in vars(rows) if name.endswith("_metrics")]:
            made = getattr(rows, name)
            patch.object(rows, name, lambda made=made: [rename(metric) for metric in made()]).start()
    build = import_module("dashboards.build")  # and with it the catalogue, from the rows as they are now
    build.build(folder)
    build.regenerate(folder)
    (folder / EXPOSITION).write_text(import_module("tests.exposition").exposition())


if __name__ == "__main__":
    names: dict[str, str] = {}

    def renamed(metric: Metric) -> Metric:
        """The metric under its other name, which is written down."""
        names[metric.name] = other_name(metric)
        return replace(metric, name=names[metric.name])

    where = Path(sys.argv[1])
    generate(where, renamed)
    (where / RENAMED).write_text(json.dumps(names))
