"""A run's verdicts, boundary by boundary, as a table of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dashboards.units import UNKNOWN, duration, percent, size
from driver.bottleneck import in_words
from exporter.sample import Sample


def boundaries_of(verdicts: Sequence[Sample]) -> list[Sample]:
    """Those verdicts that were said at an iteration boundary."""
    return [sample for sample in verdicts if "iteration_remaining_bytes" in sample.fields]


def verdict_table(verdicts: Sequence[Sample]) -> RenderableType:
    """Each boundary: what remained and what its iteration dirtied, the test for the switchover, what held it back."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("itera-\ntion", "remaining", "dirtied\n/ sent", "would\nstop for", "ends in"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict and bottleneck", overflow="fold")
    for sample in boundaries_of(verdicts):
        fields = sample.fields
        table.add_row(
            f"{fields['iteration']:.0f}",
            size(_number(fields, "iteration_remaining_bytes")),
            percent(_number(fields, "dirtied_ratio")),
            duration(_number(fields, "implied_downtime_seconds")),
            duration(_number(fields, "eta_seconds")),
            _judged(fields),
        )
    return table


def _judged(fields: Mapping[str, float | str]) -> Text:
    bottleneck = in_words(str(fields["bottleneck"])) if "bottleneck" in fields else UNKNOWN
    if fields["not_converging"]:
        return Text.assemble(("not converging", "red"), f"; {bottleneck}")
    return Text.assemble(("stalled; ", "yellow") if fields["stalled"] else "", bottleneck)


def _number(fields: Mapping[str, float | str], name: str) -> float | None:
    value = fields.get(name)
    return value if isinstance(value, float) else None
