"""A metric's name stands in the catalogue alone: a new one there changes whatever is generated or shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards.build import build, committed
from exporter.catalogue import CATALOGUE
from tests.exposition import exposition
from tests.renamed import EXPOSITION, RENAMED

OURS = re.compile(r"\bmigrascope_\w+")
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """What is generated under present names and under others (by file), and which of these stands for which."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    names: Mapping[str, str]

    def told(self, name: str) -> str:
        """The other name of a metric, or of a histogram's series."""
        stem = re.sub(r"_(bucket|sum|count)$", "", name)
        return self.names.get(name) or self.names.get(stem, stem) + name.removeprefix(stem)


@pytest.fixture(scope="module")
def renaming(tmp_path_factory: pytest.TempPathFactory) -> Renaming:
    here, there = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    before = committed() | {path.name: path.read_text() for path in build(here)} | {EXPOSITION: exposition()}
    subprocess.run([sys.executable, "-m", "tests.renamed", there], check=True, cwd=ROOT)
    names = json.loads((there / RENAMED).read_text())
    return Renaming(before=before, after={name: (there / name).read_text() for name in before}, names=names)


def test_every_name_has_another_one_for_this_test(renaming: Renaming) -> None:
    assert set(renaming.names) == {metric.name for metric in CATALOGUE}
    assert not set(renaming.names) & set(renaming.names.values())


def test_with_all_metrics_renamed_all_that_is_generated_differs_in_these_names_and_in_nothing_else(
    renaming: Renaming,
) -> None:
    for name, text in renaming.before.items():
        assert OURS.sub(lambda found: renaming.told(found[0]), text).splitlines() == renaming.after[name].splitlines()


GENERATED = ("rules", "metrics.md", ".json", EXPOSITION)


@pytest.mark.parametrize(
    ("key", "places"),
    [
        ("run.phase", GENERATED),  # a state set: its label has its name too
        ("verdict.bottleneck", ("metrics.md", ".json")),
        ("run.info", GENERATED),
        ("guest_xor.seconds", GENERATED),  # a counter
        ("exporter.journal_lost_samples", ("metrics.md", ".json", EXPOSITION)),
        ("exporter.lateness", ("rules", "metrics.md", ".json")),  # a histogram
        ("guest_latency.bucket{bucket}", ("metrics.md", ".json")),
        ("summary.blackout_seconds", ("rules", "metrics.md", ".json")),
        ("summary.{phase}_seconds_per_gib_mean", ("metrics.md", ".json")),
        ("campaign.last_change", ("rules", "metrics.md")),
        ("host.data_free_bytes", ("rules", "metrics.md", ".json")),
    ],
)
def test_the_new_name_stands_wherever_the_old_one_stood_and_the_old_one_nowhere(
    renaming: Renaming, key: str, places: tuple[str, ...]
) -> None:
    [metric] = [each for each in CATALOGUE if each.key == key]
    more = "(_bucket|_sum|_count)?" if metric.kind == "histogram" else ""
    old, new = (re.compile(rf"\b{name}{more}\b") for name in (metric.name, renaming.names[metric.name]))
    for place in places:
        assert any(place in name and old.search(text) for name, text in renaming.before.items()), place
    for name, text in renaming.before.items():
        assert len(old.findall(text)) == len(new.findall(renaming.after[name])), name
        assert not old.search(renaming.after[name]), name
