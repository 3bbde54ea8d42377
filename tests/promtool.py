"""promtool's own rule tests: what one alert says at which second, and which alerts fire over a recorded run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboards.alert import RUNBOOKS, Alert
from dashboards.promql import JOB
from dashboards.rules import alerts, rule_files
from tests.replay import Recording
from tests.stepping import steps

READ = frozenset(re.findall(r"migrascope_\w+", "".join(rule_files().values())))
"""The metrics that any rule reads."""

SCRAPED = {"job": JOB, "instance": "localhost:9742"}
"""The labels that a scrape adds."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One alert that fires: the labels of its series (a scrape's left out), and its description."""

    labels: Mapping[str, str]
    description: str


def write_rules(folder: Path) -> list[Path]:
    """Write the rule files as generated; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rule_files().items():
        (folder / name).write_text(text)
    return [folder / name for name in rule_files()]


def check_rule(
    promtool: Path, folder: Path, alert: Alert, values: Mapping[str, str], expected: Mapping[int, Sequence[Told]]
) -> None:
    """Have promtool compare: series by their values a second, and what of one alert fires at which seconds."""
    known = {"summary": alert.summary, "runbook_url": f"{RUNBOOKS}/{alert.name}.md"}
    asked = [
        {
            "eval_time": f"{second}s",
            "alertname": alert.name,
            "exp_alerts": [
                {
                    "exp_labels": SCRAPED | dict(told.labels) | {"severity": alert.severity},
                    "exp_annotations": known | {"description": told.description},
                }
                for told in firing
            ],
        }
        for second, firing in expected.items()
    ]
    series = [{"series": name, "values": text} for name, text in values.items()]
    test = {"interval": "1s", "input_series": series, "alert_rule_test": asked}
    found = _run(promtool, folder, [test], 60)
    assert found.returncode == 0, found.stdout + found.stderr


@dataclass(kw_only=True)
class Case:
    """One run's series: selector -> its values, one a second, in promtool's notation."""

    name: str
    seconds: int = 0
    series: dict[str, list[str]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Take the next second; a series that is gone is stale, as after a scrape without it."""
        for selector in self.series.keys() | values.keys():
            row = self.series.setdefault(selector, [])
            row.extend(["_"] * (self.seconds - len(row)))
            if selector in values:
                row.append(repr(values[selector]))
            else:
                row.append("_" if not row or row[-1] in ("_", "stale") else "stale")
        self.seconds += 1


def case(name: str, recording: Recording, figures: Mapping[str, object]) -> Case:
    """Replay a recording into a case; `figures` are its summary's."""
    found = Case(name=name)
    for _, families in steps([recording], {recording.header.run: figures}, 0.0, 1.0):
        found.add(
            {
                selector(sample.name, sample.labels): float(sample.value)
                for family in families
                for sample in family.samples
                if sample.name in READ
            }
        )
    return found


def selector(name: str, labels: Mapping[str, str]) -> str:
    """Write a series with the labels that a scrape adds."""
    every = SCRAPED | dict(labels)
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in sorted(every.items()))}}}"


def fired(promtool: Path, folder: Path, cases: list[Case]) -> dict[str, set[str]]:
    """Have promtool evaluate the rules over each case; returns which alerts fired, by case.

    promtool only compares: what it is told to expect is a count that cannot be, so that it says what it got.
    """
    done = _run(promtool, folder, [_test(each) for each in cases], 100)
    answers = list(_answers(done.stdout + done.stderr))
    names = [alert.name for alert in alerts()]
    assert len(answers) == len(cases) * len(names), done.stderr[-2000:]
    found: dict[str, set[str]] = {each.name: set() for each in cases}
    for number, (name, count) in enumerate(answers):
        assert name == names[number % len(names)]
        if count:
            found[cases[number // len(names)].name].add(name)
    return found


def _run(
    promtool: Path, folder: Path, tests: Sequence[Mapping[str, Any]], seconds: float
) -> subprocess.CompletedProcess[str]:
    rules = [str(path) for path in write_rules(folder / "rules")]
    file = folder / "cases.yml"
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1s", "tests": tests}))
    return subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=seconds
    )


def _test(each: Case) -> dict[str, Any]:
    def asked(name: str) -> dict[str, Any]:
        firing = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        return {
            "expr": f"count(count_over_time({firing}[1h])) or vector(0)",
            "eval_time": f"{each.seconds}s",
            "exp_samples": [{"labels": "{}", "value": -1}],
        }

    return {
        "interval": "1s",
        "input_series": [{"series": name, "values": " ".join(row)} for name, row in each.series.items()],
        "promql_expr_test": [asked(alert.name) for alert in alerts()],
    }


def _answers(text: str) -> Iterator[tuple[str, float]]:
    """What promtool got for each question, in their order."""
    for match in re.finditer(r'alertname=\\"(\w+)\\".*?got:[^\n]*?\{\} ([\d.E+]+)', text, re.DOTALL):
        yield match[1], float(match[2])
