"""Every query of every dashboard, asked of the real store that it is written for, which holds recorded migrations."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.build import DASHBOARDS
from dashboards.dialect import LETTERS
from dashboards.normalise import text
from exporter.mirror.line_protocol import line, tag_set
from tests import recordings as recorded
from tests.asking import Span, unanswered_by_influxdb, unanswered_by_prometheus
from tests.backfill import write_blocks
from tests.replay import Recording
from tests.servers import Server, running_influxdb, running_prometheus

pytestmark = pytest.mark.server

INSTANCE = "127.0.0.1:9742"

UNANSWERED = {
    "Post-copy: page requests and their latency B": "QEMU 10.1 is the first to tell postcopy-latency",
}
"""Queries (panel and letter) that come back empty from the recordings, each with the reason."""


def dashboards(*, influxdb: bool) -> list[str]:
    return [name for name in DASHBOARDS if name.endswith("-influxdb") is influxdb]


def built(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text(DASHBOARDS[name]()))
    return data


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    chosen = ("7.2-never-converges", "10.0-auto-converge", "10.0-post-copy-probed")
    found = [recorded.load(name) for name in chosen]
    return [
        replace(each, header=replace(each.header, vm=f"vm{number}", campaign="night"))
        for number, each in enumerate(found)
    ]


@dataclass(frozen=True, kw_only=True)
class Store:
    """A server, and the time that its series span."""

    server: Server
    span: Span


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, promtool: Path, prometheus_binary: Path, recordings: list[Recording]
) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("prometheus")
    span = write_blocks(promtool, folder / "data", recordings, float(int(time.time()) - 7200), INSTANCE)
    with running_prometheus(prometheus_binary, folder) as server:
        yield Store(server=server, span=span)


@pytest.fixture(scope="module")
def influxdb(
    tmp_path_factory: pytest.TempPathFactory, influxd_binary: Path, recordings: list[Recording]
) -> Iterator[Store]:
    with running_influxdb(influxd_binary, tmp_path_factory.mktemp("influxdb")) as server:
        server.post("/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE migrascope"}))
        for each in recordings:
            tags = tag_set(each.header.tags())
            rows = [row for sample in each.samples if (row := line(sample, tags))]
            server.post("/write?db=migrascope&precision=ns", "\n".join(rows).encode())
        times = [sample.time_ns / 1e9 for each in recordings for sample in each.samples]
        yield Store(server=server, span=Span(start=min(times), end=max(times)))


def letters(recordings: list[Recording]) -> dict[str, str]:
    """The six scenarios of a comparison: the one that has everything to show, the throttle too, six times."""
    (throttled,) = {each.header.scenario for each in recordings if each.header.scenario.startswith("auto-converge")}
    return {f"scenario_{letter}": throttled for letter in LETTERS}


@pytest.mark.parametrize("name", dashboards(influxdb=False))
def test_a_prometheus_that_holds_recorded_runs_answers(
    name: str, prometheus: Store, recordings: list[Recording]
) -> None:
    empty = unanswered_by_prometheus(prometheus.server, built(name), letters(recordings), prometheus.span)
    assert "\n".join(where for where in empty if where not in UNANSWERED) == ""


@pytest.mark.parametrize("name", dashboards(influxdb=True))
def test_an_influxdb_that_holds_recorded_runs_answers(name: str, influxdb: Store, recordings: list[Recording]) -> None:
    empty = unanswered_by_influxdb(influxdb.server, built(name), letters(recordings), influxdb.span)
    assert "\n".join(where for where in empty if where not in UNANSWERED) == ""
