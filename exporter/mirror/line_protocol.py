r"""InfluxDB's line protocol, written from samples.

Every number is a float, so that a field never changes its type; every word is a string. Line breaks in words become
`\n` in two characters. InfluxDB and VictoriaMetrics read a backslash in a tag differently, so it becomes a slash, and a
line break a space. An empty tag is left out, for the protocol has none; so is a number that is not finite.
Format: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from exporter.sample import Sample

_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ ", "\\": "/", "\n": "\\ ", "\r": "\\ "})
_WORD = str.maketrans({'"': '\\"', "\\": "\\\\", "\n": "\\\\n", "\r": "\\\\r"})


def tag_set(tags: Mapping[str, str]) -> str:
    """Write tags as they stand behind a measurement's name: `,run=a,vm=vm0`."""
    return "".join([f",{name}={value.translate(_TAG)}" for name, value in tags.items() if value])


def line(sample: Sample, run_tags: str) -> str | None:
    """Write one sample; `run_tags` is the `tag_set` of its run. None where no field is left to write."""
    fields = ",".join(
        [
            f'{name}="{value.translate(_WORD)}"' if isinstance(value, str) else f"{name}={float(value)!r}"
            for name, value in sample.fields.items()
            if isinstance(value, str) or math.isfinite(value)
        ]
    )
    return f"{sample.measurement}{run_tags}{tag_set(sample.tags)} {fields} {sample.time_ns}" if fields else None
