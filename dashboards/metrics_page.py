"""docs/metrics.md: every metric, and where the same samples stand in InfluxDB, written from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.catalogue import BY_KEY, CATALOGUE
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.metric import RUN_LABELS, Metric

CHAPTERS = {
    "The run": ("run", "event", "summary"),
    "The guest": ("guest_xor", "guest_tick", "guest_latency", "guest_disk"),
    "The QEMU processes": ("qemu_cpu", "qemu_memory"),
    "The migration": ("migration", "block_job"),
    "The verdict": ("verdict",),
    "Campaigns": ("campaign",),
    "The host": ("host",),
    "The exporter itself": ("process", "exporter"),
}
"""The page's chapters with the measurements whose metrics stand there."""

HEAD = """# Metrics

Generated from `exporter/catalogue.py` by `python -m dashboards.build`: change it there.

`migrascope exporter` serves these at `/metrics` on 127.0.0.1, and so does the exporter that a run starts. What QEMU
does not say is absent, never 0. Units are base units.

Every series of a run carries {labels}. `run` itself stands only in `{info}`,
whose `vm` is a slot (`vm0`, `vm1`, ...), so that the number of series stays bounded; join on it:

    {remaining} * on (instance, vm) group_left (run) {info}

A state set has one series a state, in a label of its own name; the one that holds is 1. When a run ends, its states and
verdicts (marked with *) go at once; its counters and last figures stay for twice the longest gap between the last
scrapes of any one scraper (10 to 120 s, 30 while nobody has come twice), and then go too. Counters of a run begin at 0
before it does, or increase() would miss what comes first.

A number of query-migrate that this page does not know shows in `{unmapped}` by its place, is
recorded and mirrored like any other, and counted; one that cannot be (wrong type, negative, not finite, 2^63 or more)
is dropped and counted.

Who may read them: `--listen` names another address than 127.0.0.1, `--web.config.file` a file in the form of
Prometheus' [exporter-toolkit](https://github.com/prometheus/exporter-toolkit) (its docs/web-configuration.md) with TLS
(`tls_server_config`: cert_file, key_file, client_auth_type, client_ca_file, min_version, max_version) and passwords
(`basic_auth_users`, bcrypt). It is read again when it or a certificate changes. A client that is idle, slow or in the
middle of its handshake holds up nobody: each has a thread of its own, for 30 s at most.
"""

MIRROR = """## The same samples in InfluxDB

`--influx-url` mirrors every sample of a run, with its exact time in nanoseconds, as one row of a measurement. Tags of
every row: {tags} (an empty one is left out). Every number is a float, every
word a string; truth values are 0.0 and 1.0. What VictoriaMetrics keeps of it: `MEASUREMENT_FIELD` with the same labels,
in milliseconds, words as 0. [mirrors.md](mirrors.md) tells what is guaranteed, and what remote write sends.

| measurement | further tags | fields | words |
|---|---|---|---|
"""

OPEN = "every number of query-migrate in base units, `sequence`"


def metrics_page() -> str:
    """Write the page."""
    labels = ", ".join(f"`{label}`" for label in RUN_LABELS)
    named = {"info": "run.info", "remaining": "migration.remaining_bytes", "unmapped": "migration.*"}
    head = HEAD.format(labels=labels, **{word: BY_KEY[key].name for word, key in named.items()})
    return "\n".join([head, *_chapters(), _mirror()])


def _chapters() -> Iterable[str]:
    for title, measurements in CHAPTERS.items():
        rows = [_row(metric) for metric in CATALOGUE if metric.measurement in measurements]
        yield f"## {title}\n\n| metric | type | labels | what |\n|---|---|---|---|\n" + "".join(rows)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    kind = "state set" if metric.kind == "stateset" else metric.kind
    return f"| `{metric.name}`{'*' if metric.passing else ''} | {kind} | {labels} | {metric.help} |\n"


def _mirror() -> str:
    rows = [
        f"| `{name}` | {_words(found.tags)} | {_words(found.fields or ()) or OPEN} | {_words(found.words)} |\n"
        for name, found in MEASUREMENTS.items()
    ]
    return MIRROR.format(tags=_words(RUN_TAGS)) + "".join(rows)


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
