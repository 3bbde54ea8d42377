"""Which mirrors an exporter feeds: one for each place that a run's sampling names, shared by the runs that name it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from driver.watch import Sampling
from exporter.selfmetrics import SelfMetrics

if TYPE_CHECKING:
    from exporter.sinks.influxdb import InfluxSink

Place = tuple[str, str, str, str | None]


class Mirrors:
    """Opens a mirror when the first run asks for it and keeps it until `close`."""

    def __init__(self, own: SelfMetrics) -> None:
        self._own = own
        self._open: dict[Place, InfluxSink] = {}

    def of(self, sampling: Sampling) -> list[InfluxSink]:
        """Return the mirrors that a run wants: one, or none.

        Raises:
            BadValueError: the URL is none, or its token file cannot be read.
        """
        if sampling.influx_url is None:
            return []
        # influxdb-client takes half a second to import, which a run without a mirror must not wait for
        from exporter.sinks.influxdb import InfluxSink, Mirror  # noqa: PLC0415

        place = (sampling.influx_url, sampling.influx_org, sampling.influx_bucket, sampling.influx_token_file)
        if place not in self._open:
            url, org, bucket, token_file = place
            mirror = Mirror(url=url, org=org, bucket=bucket, token_file=Path(token_file) if token_file else None)
            self._open[place] = InfluxSink(mirror, self._own)
        return [self._open[place]]

    def close(self, seconds: float) -> None:
        """Write what still waits; blocks for about so many seconds at most, so from a coroutine use a thread."""
        for sink in self._open.values():
            sink.close(seconds)
        self._open.clear()
