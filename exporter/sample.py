"""One sample: the only thing that travels from sources to the journal and on to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of a measurement.

    `time_ns` is wall-clock nanoseconds of the run's clock; `tags` are what one filters or groups by (run, campaign,
    scenario, host and vm stand once in the journal's header, not here); `fields` are what varies: floats, and words
    where the measurement's definition says so.
    """

    measurement: str
    time_ns: int
    fields: Mapping[str, float | str]
    tags: Mapping[str, str] = field(default_factory=dict)
