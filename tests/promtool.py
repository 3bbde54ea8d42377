"""Recorded runs as promtool's own rule tests: the series that our rules read, second by second, and who fired."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboards.rules import alerts, rule_files
from tests.replay import Recording
from tests.stepping import steps

READ = frozenset(re.findall(r"migrascope_\w+", "".join(rule_files().values())))
"""The metrics that any rule reads."""


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
    every = {"job": "migrascope", "instance": "localhost:9742"} | dict(labels)
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in sorted(every.items()))}}}"


def fired(promtool: Path, folder: Path, cases: list[Case]) -> dict[str, set[str]]:
    """Have promtool evaluate the rules over each case; returns which alerts fired, by case.

    promtool only compares: what it is told to expect is a count that cannot be, so that it says what it got.
    """
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in rule_files().items():
        (folder / "rules" / name).write_text(text)
        files.append(str(folder / "rules" / name))
    test = {"rule_files": files, "evaluation_interval": "1s", "tests": [_test(each) for each in cases]}
    (folder / "cases.yml").write_text(json.dumps(test))
    done = subprocess.run(
        [promtool, "test", "rules", folder / "cases.yml"], capture_output=True, text=True, check=False, timeout=100
    )
    answers = list(_answers(done.stdout + done.stderr))
    names = [alert.name for alert in alerts()]
    assert len(answers) == len(cases) * len(names), done.stderr[-2000:]
    found: dict[str, set[str]] = {each.name: set() for each in cases}
    for number, (name, count) in enumerate(answers):
        assert name == names[number % len(names)]
        if count:
            found[cases[number // len(names)].name].add(name)
    return found


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
