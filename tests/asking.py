"""Asking a real store every query of a dashboard, as Grafana would: variables and macros filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers import Server


@dataclass(frozen=True, kw_only=True)
class Span:
    """From when to when is asked, in Unix seconds."""

    start: float
    end: float


def unanswered_by_prometheus(
    server: Server, dashboard: Mapping[str, Any], variables: Mapping[str, str], span: Span, step_seconds: float = 1.0
) -> list[str]:
    """Name every query of panels, annotations and variables that came back empty, or with nothing but NaN."""
    seconds = f"{span.end - span.start:.0f}s"
    values = {"job": "migrascope", "instance": ".*", "campaign": ".*", "scenario": ".*", "run": ".*",
              "__rate_interval": "4s", "__range": seconds} | dict(variables)  # fmt: skip

    def series(query: str) -> list[dict[str, Any]]:
        return server.query_range(substituted(query, values), span.start, span.end, step_seconds)

    def options(query: str) -> set[str]:
        """What a variable offers: Grafana's label_values and query_result, done by hand."""
        if match := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
            return {result["metric"].get(match[2], "") for result in series(match[1])} - {""}
        match = re.fullmatch(r"query_result\((.*)\)", query)
        assert match
        return {result["metric"]["scenario"] for result in server.query(substituted(match[1], values), span.end)}

    found = []
    for where, target in targets(dashboard):
        if target["instant"]:
            numbers = [each["value"][1] for each in server.query(substituted(target["expr"], values), span.end)]
        else:
            numbers = [value for each in series(target["expr"]) for _, value in each["values"]]
        if all(number == "NaN" for number in numbers):
            found.append(where)
    found += [note["name"] for note in notes_of(dashboard) if not series(note["expr"])]
    return found + [each["name"] for each in variables_of(dashboard) if not options(each["query"]["query"])]


def unanswered_by_influxdb(
    server: Server, dashboard: Mapping[str, Any], variables: Mapping[str, str], span: Span
) -> list[str]:
    """The same for a dashboard that asks InfluxQL of the database `migrascope`."""
    values = {"campaign": "(.*)", "scenario": "(.*)", "run": "(.*)", "__interval": "1s",
              "timeFilter": f"time >= {span.start * 1e9:.0f} AND time <= {span.end * 1e9:.0f}"}  # fmt: skip
    values |= dict(variables)

    def cells(query: str) -> list[Any]:
        answer = json.loads(server.get("/query", db="migrascope", q=substituted(query, values), epoch="ms"))
        (result,) = answer["results"]
        assert "error" not in result, query
        return [value for one in result.get("series", []) for row in one["values"] for value in row[1:]]

    found = [where for where, target in targets(dashboard) if all(cell is None for cell in cells(target["query"]))]
    found += [note["name"] for note in notes_of(dashboard) if not cells(note["query"])]
    return found + [each["name"] for each in variables_of(dashboard) if not cells(each["query"])]


def substituted(query: str, values: Mapping[str, str]) -> str:
    """Fill in variables and macros, longer names first."""
    for variable in sorted(values, key=len, reverse=True):
        query = query.replace(f"${variable}", values[variable])
    return query


def targets(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every query of every panel, by the panel's title and the query's letter."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target


def notes_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(dashboard.get("annotations", {}).get("list", []))


def variables_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those variables whose values the store tells."""
    return [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
