"""The families of a scrape as bytes, in Prometheus' text format or OpenMetrics.

prometheus_client's own encoders look at every label's name and value anew in each line of each scrape: 11 and 15 ms of
CPU for eight QEMUs, of a thread that shares Python with the sampling loop. Labels seldom change, so here their words
are remembered. What comes out is the same, byte for byte: the encoders are kept beside these by a test.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OPENMETRICS = "application/openmetrics-text"
MOST_LABELS = 1 << 16
"""So many sets of labels are remembered: those of some sixty QEMUs at once, many times over."""

GZIP_LEVEL = 1
"""A scrape of eight QEMUs shrinks to a tenth at level 1; level 9 takes 3 ms longer for half of that."""

_TEXT_KINDS: Mapping[str, tuple[str, str]] = {
    "counter": ("_total", "counter"), "info": ("_info", "gauge"), "stateset": ("", "gauge"),
}  # fmt: skip
"""What the text format lacks: kind in OpenMetrics -> what its family's name ends with there, its kind there."""


@dataclass(frozen=True, kw_only=True)
class Exposition:
    """An answer to a scrape: its headers and its body."""

    headers: list[tuple[str, str]]
    body: bytes


_number: Callable[[float], str] = floatToGoString


def expose(registry: CollectorRegistry, *, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> Exposition:
    """Answer a scrape in the format, and the coding, that its headers ask for; `names` restricts it to some series."""
    _, content_type = choose_encoder(accept)
    # all names are such as every Prometheus knows: no way of escaping them is wanted
    content_type = re.sub(r"escaping=\S+", "escaping=underscores", content_type)
    chosen: Collector = registry.restricted_registry(names) if names else registry
    body = (openmetrics if content_type.startswith(OPENMETRICS) else text)(chosen)
    headers = [("Content-Type", content_type)]
    if gzip_accepted(accept_encoding):
        body = gzip.compress(body, GZIP_LEVEL)
        headers.append(("Content-Encoding", "gzip"))
    return Exposition(headers=headers, body=body)


def text(collector: Collector) -> bytes:
    """Prometheus' text format 0.0.4: a counter's family ends with `_total`, infos and state sets are gauges."""
    lines: list[str] = []
    for family in collector.collect():
        suffix, kind = _TEXT_KINDS.get(family.type, ("", family.type))
        lines.append(_text_head(family.name + suffix, kind, family.documentation))
        lines += [f"{s.name}{_labels(tuple(s.labels.items()))} {_number(s.value)}\n" for s in family.samples]
    return "".join(lines).encode()


def openmetrics(collector: Collector) -> bytes:
    """OpenMetrics 1.0.0."""
    lines: list[str] = []
    for family in collector.collect():
        lines.append(_openmetrics_head(family.name, family.type, family.documentation, family.unit))
        lines += [f"{s.name}{_labels(tuple(s.labels.items()))} {_number(s.value)}\n" for s in family.samples]
    lines.append("# EOF\n")
    return "".join(lines).encode()


@lru_cache
def _text_head(name: str, kind: str, documentation: str) -> str:
    words = documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {words}\n# TYPE {name} {kind}\n"


@lru_cache
def _openmetrics_head(name: str, kind: str, documentation: str, unit: str) -> str:
    head = f"# HELP {name} {_escaped(documentation)}\n# TYPE {name} {kind}\n"
    return f"{head}# UNIT {name} {unit}\n" if unit else head


@lru_cache(maxsize=MOST_LABELS)
def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    words = ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(labels)])
    return f"{{{words}}}" if words else ""


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
