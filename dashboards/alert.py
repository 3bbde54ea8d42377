"""One alert as a value, and the pieces that its expression and its text are built from."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dashboards.promql import Like, rule
from exporter.catalogue import BY_KEY

RUNBOOKS = "docs/runbooks"
OF_RUN = "(job, instance, vm)"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert. It fires once `expr` has held for `hold_seconds`, and stays for `keep_seconds` after it ceased."""

    name: str
    expr: str
    hold_seconds: int
    keep_seconds: int
    severity: str
    summary: str
    description: str

    def as_rule(self) -> dict[str, object]:
        """Write it as a rule of Prometheus."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.hold_seconds}s",
            "keep_firing_for": f"{self.keep_seconds}s",
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}/{self.name}.md",
            },
        }


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recording rule: its name says level, metric and operation."""

    name: str
    expr: str

    def as_rule(self) -> dict[str, object]:
        """Write it as a rule of Prometheus."""
        return {"record": self.name, "expr": self.expr}


def of_run(key: str, form: str, unit: str = "") -> str:
    """Write a template that shows another metric of the alert's own run; `unknown` where that is absent.

    What was last said within two minutes counts: a verdict is gone once its run has ended, and the alert is not.
    """
    return _shown(key, ("job", "instance", "vm"), form, unit, "last_over_time(%s[2m])")


def of_campaign(key: str, form: str) -> str:
    """The same for a metric of the alert's campaign, summed over its series."""
    return _shown(key, ("job", "instance", "campaign"), form, "", "sum(%s)")


def of_mirror(key: str, form: str, unit: str = "") -> str:
    """The same for a metric of the alert's mirror."""
    return _shown(key, ("job", "instance", "mirror"), form, unit)


def run_in_words() -> str:
    """Begin a description: which scenario, on which VM, of which exporter."""
    return "Scenario {{ $labels.scenario }} on {{ $labels.vm }} of {{ $labels.instance }}: "


def strategy_is(pattern: str) -> str:
    """Select the runs whose strategy matches; to be joined with `and on` or `unless on`."""
    return rule("run.info", strategy=Like(pattern))


def _shown(key: str, labels: tuple[str, ...], form: str, unit: str, wrapped: str = "%s") -> str:
    matchers = ",".join(f"{label}=%q" for label in labels)
    chosen = json.dumps(wrapped.replace("%s", f"{BY_KEY[key].name}{{{matchers}}}"))
    values = " ".join(f"$labels.{label}" for label in labels)
    value = f"{{{{ . | first | value | {form} }}}}{unit}"
    return f"{{{{ with printf {chosen} {values} | query }}}}{value}{{{{ else }}}}unknown{{{{ end }}}}"
