"""What tests of mirrors share: a recorded run in a spool, and its delivery in this process."""

from __future__ import annotations

import threading

from driver.datadir import DataDir
from exporter.mirror.destination import INFLUXDB, Destination
from exporter.mirror.feed import Feed
from exporter.mirror.line_protocol import line, tag_set
from exporter.mirror.spool import Spool, spool_for
from tests.recorded import a_run, header, samples

RUN = "20261123-000000-aaaa"
SAMPLES = samples()
LINES = [line(sample, tag_set(header(RUN).tags())) for sample in SAMPLES]


def influx(url: str, **more: object) -> Destination:
    return Destination(kind=INFLUXDB, url=url, org="lab", bucket="runs", **more)  # type: ignore[arg-type]


def spooled(data: DataDir, destination: Destination, run: str = RUN) -> Spool:
    """A spool that holds an ended run, whose journal is still in its directory."""
    spool = spool_for(data, destination)
    directory = data.run(run)
    if not directory.path.exists():
        a_run(data, run)
    spool.follow(directory)
    spool.release(directory)
    return spool


def sent(data: DataDir, spool: Spool) -> None:
    Feed(data, spool, threading.Event()).run()
