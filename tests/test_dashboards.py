"""Grafana's dashboards: agreed on, free of the known faults, and every query answered by a real Prometheus."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dashboards.build import DASHBOARDS, build
from dashboards.normalise import text
from dashboards.promql import JOB, gauge, rate
from exporter.catalogue import CATALOGUE
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.http import MetricsServer
from exporter.sinks.prometheus import PrometheusSink
from tests.golden import Golden
from tests.replay import recording
from tests.servers import Server, running_prometheus

COUNTERS = {metric.name for metric in CATALOGUE if metric.kind == "counter"}
NAMES = {metric.name for metric in CATALOGUE}


@pytest.fixture(params=sorted(DASHBOARDS))
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text(DASHBOARDS[request.param]()))
    return data


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Every query of panels and annotations, by a name that tells where it stands."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return found | {annotation["name"]: annotation["expr"] for annotation in dashboard["annotations"]["list"]}


def test_dashboards_are_the_agreed_ones_and_are_written_as_flat_files(tmp_path: Path, golden: Golden) -> None:
    written = build(tmp_path / "new" / "directory")
    assert [path.name for path in written] == [f"{name}.json" for name in DASHBOARDS]
    for path in written:
        golden.check(path.name, path.read_text())


def test_every_panel_says_what_it_shows_in_which_unit_and_has_its_own_id(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH")[: len(panel["targets"])]
        assert all(target["legendFormat"] for target in panel["targets"])


def test_every_query_names_metrics_of_the_catalogue_of_one_job_and_counters_only_as_rates(
    dashboard: dict[str, Any],
) -> None:
    for where, query in queries(dashboard).items():
        selectors = re.findall(r"(migrascope_\w+)\{([^}]*)\}", query)
        assert selectors, where
        for name, matchers in selectors:
            assert name in NAMES, where
            assert matchers.startswith('job="$job",instance=~"$instance",vm=~"$vm"'), where
            inside = f"rate({name}{{{matchers}}}[$__rate_interval])"
            assert (name in COUNTERS) == (inside in query), where


def test_what_grafana_no_longer_reads_is_gone(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] == 41
    assert dashboard["editable"] is False
    assert dashboard["uid"].startswith("migrascope-")
    nulls = [place for place, value in walk(dashboard) if value is None]
    assert all(re.fullmatch(r".*\.thresholds\.steps\.0\.value", place) for place in nulls)
    sources = [value for place, value in walk(dashboard) if place.endswith(".datasource.uid")]
    assert set(sources) == {"${datasource}"}
    words = json.dumps(dashboard)
    assert not any(key in words for key in ("intervalFactor", "maxDataPoints", '"step": 10', "minSpan"))


def walk(value: Any, place: str = "") -> list[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [found for key, item in items for found in walk(item, f"{place}.{key}")]
    return below or [(place, value)]


def test_a_query_that_the_catalogue_does_not_allow_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="want its rate"):
        gauge("migrascope_guest_xor_bytes_total")
    with pytest.raises(ValueError, match="has no rate"):
        rate("migrascope_migration_iteration", ("vm",))
    with pytest.raises(KeyError, match="no label role"):
        gauge("migrascope_verdict_stalled", role="source")
    with pytest.raises(KeyError):
        gauge("migrascope_verdict_misspelt")


def filled(query: str, instance: str) -> str:
    """A query as Grafana would send it."""
    values = {"$__rate_interval": "2s", "$job": JOB, "$instance": instance, "$vm": "vm0|vm1"}
    for variable, value in values.items():
        query = query.replace(variable, value)
    return query


def unanswered(prometheus: Server, dashboard: dict[str, Any], instance: str, start: float) -> list[str]:
    """Every query of a dashboard that came back empty, or with nothing but NaN."""
    found = []
    for where, query in queries(dashboard).items():
        results = prometheus.query_range(filled(query, instance), start, time.time(), 0.25)
        if not any(value != "NaN" for result in results for _, value in result["values"]):
            found.append(f"{where}: {query}")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert match
            if not any(result["metric"].get(match[2]) for result in prometheus.query(filled(match[1], instance))):
                found.append(variable["name"])
    return found


def scraping(prometheus: Server) -> None:
    """Wait until Prometheus scrapes: it takes up to 5 s to look at its targets for the first time."""
    deadline = time.monotonic() + 20.0
    while not prometheus.query("up == 1"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.server
def test_every_query_is_answered_by_a_prometheus_that_scraped_a_recorded_migration(
    tmp_path: Path, prometheus_binary: Path, dashboard: dict[str, Any]
) -> None:
    """A run that stalls and a throttled one side by side, faster than they were recorded."""
    sink, registry = PrometheusSink(SelfMetrics()), CollectorRegistry()
    registry.register(sink)
    server = MetricsServer(registry, 0)
    runs = [recording("10.0-m-nonconverge-ws16-bw32-dl100"), recording("7.2-m-autoconverge-i80-s19", vm="vm1")]
    instance, start = f"127.0.0.1:{server.port}", time.time()
    try:
        with running_prometheus(prometheus_binary, tmp_path, targets=[instance]) as prometheus:
            for run in runs:
                sink.attach(run.header, run.record)
            scraping(prometheus)
            streams = [run.batches(1.0) for run in runs]
            for first, second in zip(*streams, strict=False):
                sink.take(runs[0].header.run, first)
                sink.take(runs[1].header.run, second)
                time.sleep(0.4)  # four scrapes
            assert unanswered(prometheus, dashboard, instance, start) == []
    finally:
        server.close()
