"""What a metric is: a name, its labels, its help, and which field of which sample gives its value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

PREFIX = "migrascope_"

RUN_LABELS = ("vm", "scenario", "campaign")
"""Labels of every series of a run; `run` itself stands only in migrascope_run_info, joined on `vm`."""

OWN = frozenset({"exporter", "process", "host", "campaign"})
"""Measurements that are of no run: their metrics carry no run's labels."""

UNITS = ("seconds_per_gib", "bytes_per_second", "pages_per_second", "seconds", "bytes", "ratio", "pages")
"""Units as names end with them; longer ones first."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric as Prometheus sees it.

    `measurement` and `field` say which sample's field gives the value, divided by the field `over`, times `factor`; the
    field `time_ns` is the sample's own stamp, an empty one is 1 for each sample. A field with a label's name in braces
    (`vcpu{vcpu}_blocktime_seconds`) stands for all fields of that form, the brace's word being the label's value; `*`
    stands for every number that no other metric of its measurement takes, named by the label `field`. The measurements
    `run` and `summary` are a run's record and its figures, `exporter` the figures of
    `exporter.selfmetrics.SelfMetrics`, `process`, `host` and
    `campaign` what is read at a scrape. `only` and `omit` select samples
    by one tag. A counter with `tally` sums the fields, any other shows the source's own figure; `zero` lists the label
    values of the series that a run starts with at 0 (of label `vcpu` alone: every vCPU), since a counter that is born
    at 1 is missed by increase(). The field `over` of a histogram holds the mean of its observations. `passing` series
    go at once when their run ends, the others linger.
    """

    name: str
    kind: str
    help: str
    measurement: str
    field: str
    labels: tuple[str, ...] = ()
    over: str | None = None
    factor: float = 1.0
    tally: bool = False
    passing: bool = False
    only: tuple[str, str] | None = None
    omit: tuple[str, str] | None = None
    states: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    zero: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def key(self) -> str:
        """What its value comes from, such as `migration.remaining_bytes`: all that asks for it does so by this.

        Its name stands in the catalogue alone, and may change there. A metric of one kind of samples has that in
        brackets (`qemu_cpu[process].cpu_seconds`), a quotient both fields (`guest_xor.seconds/bytes`).
        """
        only = f"[{self.only[1]}]" if self.only else ""
        over = f"/{self.over}" if self.over and self.kind != "histogram" else ""
        return f"{self.measurement}{only}.{self.field}{over}"

    @cached_property
    def family(self) -> str:
        """The name of its family in OpenMetrics: without `_total` or `_info`."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @cached_property
    def unit(self) -> str:
        """The unit that the name ends with; empty where it is a plain number."""
        return next((unit for unit in UNITS if self.family.endswith(f"_{unit}")), "")

    @cached_property
    def all_labels(self) -> tuple[str, ...]:
        """Its labels with those of the run, in the order of its series."""
        return self.labels if self.measurement in OWN else RUN_LABELS + self.labels

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """What the names of its fields match, with its label as the group's name; None for one plain field."""
        if "{" not in self.field:
            return None
        before, _, rest = self.field.partition("{")
        label, _, after = rest.partition("}")
        return re.compile(f"{re.escape(before)}(?P<{label}>.+){re.escape(after)}")
