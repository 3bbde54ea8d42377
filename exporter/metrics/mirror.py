"""The mirrors: how far each has come with what it was to send."""

from __future__ import annotations

from exporter.metric import PREFIX, Metric


def mirror_metrics() -> list[Metric]:
    """List the metrics of mirrors; `exporter.selfmetrics.SelfMetrics` holds their figures."""

    def own(name: str, kind: str, text: str, field: str) -> Metric:
        return Metric(
            name=f"{PREFIX}mirror_{name}", kind=kind, help=f"{text} (checkpoint.json of its spool)",
            measurement="exporter", field=f"mirror_{field}", labels=("mirror",),
        )  # fmt: skip

    return [
        own("up", "gauge", "1 while a mirror takes what it is sent", "up"),
        own("lag_seconds", "gauge", "Age of the newest sample that a mirror acknowledged, 0 with none waiting", "lag"),
        own("waiting_bytes", "gauge", "Bytes of journal that a mirror has yet to acknowledge", "waiting_bytes"),
        own("samples_total", "counter", "Samples that a mirror is done with, dead letters included", "samples"),
        own("retries_total", "counter", "Requests to a mirror that failed and were sent again", "retries"),
        own("dropped_samples_total", "counter", "Samples that a mirror lost to its spool's bound", "dropped"),
        own("dead_letters_total", "counter", "Rows that a mirror refused, kept as dead letters", "dead_letters"),
        own("collapsed_values_total", "counter", "Values that share a millisecond with a later one", "collapsed"),
    ]
