"""A host on which much goes wrong: real exporters scraped by a real Prometheus with our rules, and the faults.

Beside each fault stands something healthy of the same kind, so that an alert on the wrong one is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from driver.campaign_state import read_state
from driver.datadir import DataDir
from driver.lock import VARIABLE
from driver.watch import Sampling, find_exporter
from exporter.mirror.spool import Spool, spool_for
from exporter.mirror.status import standing
from tests.faulty import Fault, Script, faulty_server
from tests.mirroring import influx, spooled
from tests.played import PlayedRun
from tests.promtool import write_rules
from tests.servers import Server, running_prometheus, unused_port
from tests.small_disk import mounted
from tests.test_campaign import PLAN, StandIn, campaign
from tests.waiting import wait_until

DISK_MIB, FILL_MIB = 1100, 120
"""A disk that has 1 GiB left while it is empty, and less once it is filled."""

AWAY_SECONDS = 120.0
HUNG_SECONDS = 7200.0
NAMES = ("campaigns", "disk", "killed", "late", "mirrors")
READY_SECONDS = 60.0
TAKEN_RUN = "20261122-000000-cccc"
OLD_RUNS = tuple(f"20261123-00000{number}-cccc" for number in range(8))
"""Together more journal than 1 MiB."""

Fired = tuple[str, str, str]
"""An alert, the exporter that it is about, and the campaign or mirror."""


@dataclass(kw_only=True)
class Host:
    """Exporters by name, the Prometheus that scrapes them, and what was done to them; `unmounted` says why no disk."""

    folder: Path
    unmounted: str
    prometheus: Server
    exporters: dict[str, subprocess.Popen[bytes]]
    data: dict[str, DataDir]
    instances: dict[str, str]
    mirrors: dict[str, Spool]
    stack: ExitStack
    before: set[Fired] = field(default_factory=set)

    def firing(self) -> set[Fired]:
        """Every alert that fires now or did within ten minutes."""
        found = self.prometheus.query('count_over_time(ALERTS{alertstate="firing"}[10m])')
        return {self.named(series["metric"]) for series in found}

    def description(self, alert: Fired) -> str:
        """What an alert that fires now says."""
        return next(
            str(each["annotations"]["description"])
            for each in self.prometheus.alerts()
            if self.named(each["labels"]) == alert
        )

    def named(self, labels: dict[str, str]) -> Fired:
        """An alert by its labels."""
        mirrors = {spool.destination.name: name for name, spool in self.mirrors.items()}
        subject = labels.get("campaign", "").rpartition("-")[0] or mirrors.get(labels.get("mirror", ""), "")
        return labels["alertname"], self.instances[labels["instance"]], subject


@contextmanager
def faulty_host(folder: Path, prometheus: Path) -> Iterator[Host]:
    """Bring the host up, see that it is silent, and do to it all that the alerts are for."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(VARIABLE, str(folder / "driver.lock"))
        unmounted = stack.enter_context(mounted(folder / "disk", DISK_MIB))
        data = {name: DataDir.open(folder / name) for name in NAMES if name != "disk" or not unmounted}
        servers = {name: stack.enter_context(faulty_server()) for name in ("takes", "refuses", "overflows")}
        mirrors = _mirrors(data["mirrors"], servers)
        killable = _campaign_process(stack, data["campaigns"], "given-up", AWAY_SECONDS)
        exporters = {name: stack.enter_context(_exporting(place)) for name, place in data.items()}
        for place in data.values():
            wait_until(lambda place=place: find_exporter(place) is not None, READY_SECONDS)  # type: ignore[misc]
        server = stack.enter_context(
            running_prometheus(
                prometheus, folder / "prometheus", file_sd=[place.file_sd for place in data.values()],
                rule_files=write_rules(folder / "rules"), scrape_interval_seconds=1.0,
            )
        )  # fmt: skip
        host = Host(
            folder=folder, unmounted=unmounted, prometheus=server, exporters=exporters, data=data, mirrors=mirrors,
            stack=stack, instances={_target(place): name for name, place in data.items()},
        )  # fmt: skip
        asked = (
            f"count(count_over_time(up[1h]) > 2) == {len(data)}",
            "count(migrascope_mirror_dead_letters_total == 0) == 3",
            "count(migrascope_mirror_samples_total > 0) == 1 and count(migrascope_mirror_lag_seconds == 0) == 3",
            "migrascope_campaign_active == 1",
        )
        wait_until(lambda: all(server.query(query) for query in asked), READY_SECONDS)
        host.before = {host.named(alert["labels"]) for alert in server.alerts()}
        _provoke(host, servers, killable)
        yield host


def _provoke(host: Host, servers: dict[str, Script], killable: subprocess.Popen[bytes]) -> None:
    """Do it all at once, so that the alerts' holds pass together; what takes time goes on behind our back."""
    host.stack.enter_context(_stuttering(host))
    stopped = _campaign_process(host.stack, host.data["campaigns"], "stopped", AWAY_SECONDS)
    stopped.send_signal(signal.SIGINT)
    stopped.wait()
    host.exporters["killed"].kill()
    killable.kill()
    killable.wait()
    if not host.unmounted:
        with (host.data["disk"].path / "filler").open("wb") as filler:
            for _ in range(FILL_MIB):
                filler.write(bytes(1 << 20))
    _mirror_faults(host, servers)
    place = host.data["campaigns"]
    for name, fate, repeats in (
        ("answers", lambda _job, _number: "not_converged", 3),
        ("fails", lambda _job, number: "failed" if number % 2 else "completed", 3),
        ("parks", lambda job, _number: None if job.request.scenario.strategy == "none" else "completed", 10),
    ):
        plan = replace(PLAN, name=name, repeats=repeats)
        asyncio.run(campaign(place, StandIn(fate), plan))
    _campaign_process(host.stack, place, "hangs", HUNG_SECONDS)


def _mirrors(data: DataDir, servers: dict[str, Script]) -> dict[str, Spool]:
    """Mirrors as three servers that answer see them."""
    servers["refuses"].judge = lambda _: Fault(status=400, body="field type conflict")
    servers["overflows"].judge = lambda _: Fault(status=503)
    bounds = {"takes": 1024, "refuses": 1024, "overflows": 1}
    found = {name: spool_for(data, influx(script.url, spool_mib=bounds[name])) for name, script in servers.items()}
    spooled(data, found["takes"].destination, TAKEN_RUN)
    return found


def _mirror_faults(host: Host, servers: dict[str, Script]) -> None:
    """Spool runs: to who takes them, who refuses them, who is away for too many of them, and who is not there."""
    data, mirrors = host.data["mirrors"], host.mirrors
    away = mirrors["away"] = spool_for(data, influx(f"http://127.0.0.1:{unused_port()}"))
    for run in OLD_RUNS:
        for name, spool in list(mirrors.items()):
            if name == "overflows" or run == OLD_RUNS[0]:
                spooled(data, spool.destination, run)
    since = time.time() - AWAY_SECONDS  # as when the server went away then
    for spooled_run in away.runs():
        os.utime(spooled_run.since, (since, since))
    wait_until(lambda: standing(mirrors["overflows"]).dropped, READY_SECONDS)
    servers["overflows"].judge = lambda _: None


@contextmanager
def _stuttering(host: Host) -> Iterator[None]:
    """Watch a played run with an exporter that is stopped for 0.4 s of each 0.8 s."""
    data, process = host.data["late"], host.exporters["late"]
    run = PlayedRun(data, "20261124-000000-late", host.folder)
    client = find_exporter(data)
    assert client is not None
    ended = threading.Event()

    def stutter() -> None:
        while not ended.is_set():
            process.send_signal(signal.SIGSTOP)
            ended.wait(0.4)
            process.send_signal(signal.SIGCONT)
            ended.wait(0.4)

    thread = threading.Thread(target=stutter, daemon=True)
    try:
        asyncio.run(client.attach(run.run, Sampling()))
        thread.start()
        yield
    finally:
        ended.set()
        if thread.ident:
            thread.join()
        run.end()


@contextmanager
def _exporting(data: DataDir) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "migrascope.main", "exporter", "--data-dir", str(data.path), "--port", "0"]
    with data.exporter_log.open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def _campaign_process(stack: ExitStack, data: DataDir, name: str, slow_seconds: float) -> subprocess.Popen[bytes]:
    """Start a campaign's driver that hangs in its second run, and wait until it does."""
    command = [sys.executable, "-m", "tests.campaign_process", str(data.path), name, str(slow_seconds)]
    environment = os.environ | {VARIABLE: str(data.path.parent / f"{name}.lock")}
    process = stack.enter_context(subprocess.Popen(command, env=environment))
    stack.callback(process.kill)
    place = data.campaign(replace(PLAN, name=name).campaign)
    wait_until(lambda: place.state.exists() and len(read_state(place).begun) and read_state(place).ended_runs)
    return process


def _target(data: DataDir) -> str:
    """The address at which a data directory's exporter is scraped."""
    return str(json.loads(data.file_sd.read_bytes())[0]["targets"][0])
