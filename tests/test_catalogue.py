"""The catalogue of metrics: complete, without contradictions, and the same as the page that documents it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from dashboards.build import check, regenerate
from driver.progress import FIELDS, LISTS, UNFILLED, WORDS
from exporter.catalogue import BY_KEY, CATALOGUE
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.metric import OWN, RUN_LABELS, Metric
from exporter.metrics.migration import MIGRATION_COUNTERS, MIGRATION_HELP, MIGRATION_NAMES
from exporter.selfmetrics import SelfMetrics

ROOT = Path(__file__).parent.parent
SCHEMAS = Path(__file__).with_name("data") / "query-migrate-schemas.json"


def test_no_two_metrics_share_a_name_a_family_or_a_key() -> None:
    assert len(BY_KEY) == len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    assert len({metric.family for metric in CATALOGUE}) == len(CATALOGUE)


def test_every_number_of_query_migrate_is_a_metric_whose_help_names_its_place() -> None:
    shown = {metric.field: metric.help for metric in CATALOGUE if metric.measurement == "migration"}
    for place, (field, _) in FIELDS.items():
        assert f"(QMP query-migrate {place})" in shown[field]
    for place, (form, _) in LISTS.items():
        [help_text] = [text for field, text in shown.items() if re.sub("{.*}", "{}", field) == form]
        assert f"QMP query-migrate {place}" in help_text
    known = {field for field, _ in FIELDS.values()}
    assert known == set(MIGRATION_HELP)
    assert known >= MIGRATION_COUNTERS
    assert known >= set(MIGRATION_NAMES)


def test_every_number_that_the_schemas_of_7_2_10_0_and_10_1_name_has_its_place() -> None:
    places = set(FIELDS) | set(LISTS) | WORDS | UNFILLED
    for version, members in json.loads(SCHEMAS.read_text()).items():
        assert not set(members) - places, version


def test_every_field_of_a_measurement_that_a_metric_names_exists() -> None:
    for metric in CATALOGUE:
        if metric.measurement in {"run", "summary"} | OWN:
            continue
        measurement = MEASUREMENTS[metric.measurement]
        assert set(metric.labels) - _named_by_field(metric) <= set(measurement.tags), metric.name
        declared = None if measurement.fields is None else {*measurement.fields, *measurement.words}
        for field in (metric.field, metric.over):
            if declared is None or not field or field == "time_ns":
                continue
            if metric.pattern:
                assert any(metric.pattern.fullmatch(name) for name in declared), metric.name
            else:
                assert field in declared, metric.name


def _named_by_field(metric: Metric) -> set[str]:
    """The label that a field's own name gives."""
    if metric.field == "*":
        return {"field"}
    return set(metric.pattern.groupindex) if metric.pattern else set()


def test_every_field_of_a_verdict_is_a_metric() -> None:
    shown = [metric for metric in CATALOGUE if metric.measurement == "verdict"]
    verdict = MEASUREMENTS["verdict"]
    for field in (*(verdict.fields or ()), *verdict.words):
        assert [m for m in shown if m.field == field or (m.pattern and m.pattern.fullmatch(field))], field


def test_every_figure_of_the_exporter_itself_is_a_metric_and_the_other_way_round() -> None:
    fields = [metric.field for metric in CATALOGUE if metric.measurement == "exporter"]
    assert sorted(fields) == sorted(field.name for field in dataclasses.fields(SelfMetrics))


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for metric in CATALOGUE:
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.help
        assert not metric.help.endswith(".")


def test_the_help_of_every_metric_ends_with_its_source_or_how_it_is_joined() -> None:
    for metric in CATALOGUE:
        assert re.search(r"\([^()]+\)(; .+)?$", metric.help), f"{metric.name}: {metric.help}"


def test_no_metric_but_the_info_carries_the_run_so_that_the_series_stay_bounded() -> None:
    assert set(RUN_LABELS) < set(RUN_TAGS)
    assert [metric.name for metric in CATALOGUE if "run" in metric.all_labels] == ["migrascope_run_info"]


def test_the_generated_files_of_the_tree_are_those_that_would_be_written_now(tmp_path: Path) -> None:
    assert check(ROOT) == [], "run python -m dashboards.build"
    assert len(check(tmp_path)) == len(regenerate(tmp_path))
    assert check(tmp_path) == []
