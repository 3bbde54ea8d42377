"""The exporter's process: one a data directory, with its lock, its files, its watch socket and its /metrics."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

from prometheus_client import CollectorRegistry

from driver.clock import BOOT_ID
from driver.datadir import DataDir, runtime_dir, write_json
from driver.lock import try_lock
from driver.watch import LINE_LIMIT, ExporterInfo, Mirroring, Sampling, find_exporter
from exporter.desk import Desk
from exporter.episode import Surroundings
from exporter.mirror.service import Mirrors
from exporter.observed_vms import ObservedVms
from exporter.rates import wake_exactly
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.campaigns import CampaignReader
from exporter.sinks.host import HostReader, ProcessReader
from exporter.sinks.http import Listener, MetricsServer
from exporter.sinks.prometheus import PrometheusSink
from exporter.sinks.reader import Reader
from exporter.sinks.scrapes import MOST_SECONDS, Scrapes
from exporter.vms import VmQemu
from workload.errors import MigrascopeError

DEFAULT_PORT = 9742
FIRST_RUN_SECONDS = 10.0
LOOK_SECONDS = 0.1
LEAVING_SECONDS = 8.0
"""How long an exporter waits for one that is leaving: that ends its mirrors first."""

LINGER_SHARE = 4.0
"""Series of an exporter that ends by itself linger at most so many times its own lingering: 120 s where that is 30."""
GARBAGE_THRESHOLDS = (20_000, 20, 20)
"""Samples make many objects and no cycles: Python's usual 700 looks for some 50 times a second."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Observing:
    """The VMs of others that an exporter is to watch: those that are named, those of a file, and how often."""

    qemus: tuple[VmQemu, ...] = ()
    file: Path | None = None
    sampling: Sampling = field(default_factory=Sampling)


def serve(
    data: DataDir,
    *,
    listener: Listener,
    linger_seconds: float | None,
    mirroring: Mirroring,
    observing: Observing | None = None,
) -> int:
    """Serve a data directory until a signal comes; returns the exit status.

    `mirroring` names the destinations of every run, beside those that a run asks for itself.

    With `linger_seconds` it also ends by itself: when the last run's series have gone and so many seconds have passed
    since. Port 0 takes any free one. `observing` are the VMs of others that it watches besides.

    Raises:
        MigrascopeError: another exporter serves this data directory, the address is taken, a mirror cannot be used, or
            the attach file is wrong.
    """
    logging.basicConfig(format="exporter: %(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("exporter").setLevel(logging.INFO)
    wake_exactly()
    with _only_one(data):
        from exporter import derivation  # noqa: F401, PLC0415 - Arrow is loaded now: a run's end does not wait for it

        return asyncio.run(_serve(data, listener, linger_seconds, mirroring, observing))


def main() -> int:
    """`python -m exporter.server`: what a run starts."""
    parser = argparse.ArgumentParser(prog="exporter.server", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--port", type=int, default=0, metavar="N")
    parser.add_argument("--linger", type=float, default=None, metavar="SECONDS")
    arguments = parser.parse_args()
    try:
        data = DataDir.open(arguments.data_dir)
        return serve(
            data, listener=Listener(port=arguments.port), linger_seconds=arguments.linger, mirroring=Mirroring()
        )
    except MigrascopeError as error:
        print(f"exporter: {error}", file=sys.stderr)
        return 1


async def _serve(
    data: DataDir, listener: Listener, linger_seconds: float | None, mirroring: Mirroring, observing: Observing | None
) -> int:
    own = SelfMetrics()
    mirrors = Mirrors(data, mirroring, own)
    own.info.set(metadata.version("migrascope"), value=1.0)
    most_seconds = MOST_SECONDS if linger_seconds is None else min(MOST_SECONDS, LINGER_SHARE * linger_seconds)
    scrapes = Scrapes(most_seconds)
    readers: list[Reader] = [HostReader(data.path), CampaignReader(data), ProcessReader()]
    prometheus = PrometheusSink(own, scrapes.linger_seconds, readers)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(prometheus)
    try:
        metrics = MetricsServer(registry, listener, scrapes, own)
    except OSError as error:
        raise MigrascopeError(
            f"port {listener.port} on {listener.address}: {error.strerror or error}; choose another with --port"
        ) from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        desk = Desk(data, [prometheus], mirrors, own, scrapes.linger_seconds)
        mirrors.start()
        around = Surroundings(
            data=data, sinks=[prometheus], resting=prometheus.resting, desk=desk, metrics=own,
            sampling=observing.sampling if observing else Sampling(),
        )  # fmt: skip
        vms = ObservedVms(observing.qemus, observing.file, around) if observing else None
        listener = replace(listener, port=metrics.port)
        # the watch socket goes in the very moment in which nothing is found to do: no run comes between
        async with _observed(vms), _announced(data, desk, listener):
            print(listener.url, flush=True)
            tidying = asyncio.create_task(desk.tidy())
            releasing = asyncio.create_task(desk.release_abandoned())
            # what lives until the end need not be looked at by each collection in the sampling loop
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE_THRESHOLDS)
            await _until_idle(stop, desk, prometheus, linger_seconds)
        releasing.cancel()
        await desk.close()
        await tidying
    finally:
        await mirrors.close()
        await asyncio.to_thread(metrics.close)
    return 0


@contextlib.asynccontextmanager
async def _observed(vms: ObservedVms | None) -> AsyncIterator[None]:
    """Watch VMs of others as long as the context lasts; their runs are closed before the desk is."""
    watching = asyncio.create_task(vms.serve()) if vms else None
    try:
        yield
    finally:
        if watching:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _until_idle(
    stop: asyncio.Event, desk: Desk, prometheus: PrometheusSink, linger_seconds: float | None
) -> None:
    loop = asyncio.get_running_loop()
    # a run that starts an exporter needs a moment until it attaches
    quiet_at = loop.time() + FIRST_RUN_SECONDS
    while not stop.is_set():
        if desk.busy:
            quiet_at = loop.time()
        elif linger_seconds is not None and not prometheus.shown_runs and loop.time() >= quiet_at + linger_seconds:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await stop.wait()


@contextlib.contextmanager
def _only_one(data: DataDir) -> Iterator[None]:
    """Hold the data directory's exporter lock; it ends with this process, however that ends.

    One that holds it and is not announced is leaving (or has just begun): it is waited for.
    """
    deadline = time.monotonic() + LEAVING_SECONDS
    while True:
        with try_lock(data.exporter_lock) as taken:
            if taken:
                yield
                return
        if find_exporter(data) or time.monotonic() > deadline:
            raise MigrascopeError(f"data directory {data.path}: another exporter serves it ({data.exporter})")
        time.sleep(LOOK_SECONDS)


@contextlib.asynccontextmanager
async def _announced(data: DataDir, desk: Desk, listener: Listener) -> AsyncIterator[None]:
    """Open the watch socket and say where it and /metrics are; a clean end takes all of that back."""
    _remove_predecessor(data)
    directory = runtime_dir()
    path = directory / "watch"
    try:
        server = await asyncio.start_unix_server(desk.serve, path, limit=LINE_LIMIT)
        host = socket.gethostname()
        info = ExporterInfo(
            pid=os.getpid(), boot_id=BOOT_ID.read_text().strip(), socket=str(path), host=host, port=listener.port
        )
        labels = {"job": "migrascope", "host": host} | ({"__scheme__": "https"} if listener.secure else {})
        write_json(data.file_sd, [{"targets": [listener.target], "labels": labels}])
        write_json(data.exporter, asdict(info))
        try:
            yield
        finally:
            desk.turn_away()
            data.exporter.unlink(missing_ok=True)
            data.file_sd.unlink(missing_ok=True)
            server.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_predecessor(data: DataDir) -> None:
    """Take away the socket directory that an exporter which was killed has left; we hold its lock."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        left = Path(json.loads(data.exporter.read_bytes())["socket"]).parent
        if left.name.startswith("migrascope-"):
            shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
