"""A campaign on a cluster over TLS and its ends: no certificate, Ctrl-C in mid-run, a scheduler that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.campaign_kills import PLAN, faults
from driver.campaign_events import Cut, read_events
from driver.campaign_state import read_state
from driver.datadir import DataDir
from driver.lock import VARIABLE
from exporter.start import LINGER_VARIABLE
from tests.servers import unused_port
from tests.test_cluster import WAIT_SECONDS, Cluster, dask, ended, runs_of, start, the_campaign, until
from tests.test_metrics_server import make_certificate


@contextmanager
def encrypted_cluster(folder: Path, port: int) -> Iterator[tuple[Cluster, subprocess.Popen[bytes]]]:
    """A scheduler and its one worker, whose certificates Dask's own settings name; the scheduler's process too."""
    folder.mkdir()
    address = f"tls://127.0.0.1:{port}"
    told = ("--host", "127.0.0.1", "--protocol", "tls", "--no-dashboard")
    with (
        ended(dask(folder / "scheduler.log", "scheduler", *told, "--port", str(port))) as scheduler,
        ended(
            dask(
                folder / "w1.log",
                *("worker", address, *told, "--nthreads", "1", "--no-nanny", "--name", "w1"),
                *("--local-directory", str(folder / "w1")),
                **{VARIABLE: str(folder / "w1.lock"), LINGER_VARIABLE: "1"},
            )
        ) as worker,
    ):
        yield Cluster(address=address, workers={"w1": worker}, folder=folder), scheduler


@pytest.mark.qemu
@pytest.mark.timeout(300)
def test_over_tls_a_campaign_ends_at_ctrl_c_and_with_its_scheduler_and_goes_on_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, log, data = tmp_path / "kills.toml", tmp_path / "log", DataDir.open(tmp_path / "data")
    plan.write_text(PLAN.format(repeats=1).replace('["none", "post-copy"]', '["none"]'))
    port = unused_port()

    def begun(cluster: Cluster) -> subprocess.Popen[bytes]:
        return start(plan, data.path, log, "--scheduler", cluster.address)

    def under_way(campaign: subprocess.Popen[bytes], cluster: Cluster) -> psutil.Process:
        worker = cluster.workers["w1"]
        until(lambda: campaign.poll() is not None or runs_of(worker), "the worker is at work", log)
        assert campaign.poll() is None, log.read_text()
        (run,) = runs_of(worker).values()
        return run

    made = make_certificate(tmp_path, "cluster")
    names = ["CA_FILE", *(f"{who}__{what}" for who in ("SCHEDULER", "WORKER", "CLIENT") for what in ("CERT", "KEY"))]
    for name in names:
        path = made.key if name.endswith("KEY") else made.certificate
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(path))
    with encrypted_cluster(tmp_path / "first", port) as (cluster, scheduler):
        with monkeypatch.context() as bare:
            for name in names:
                bare.delenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}")
            refused = begun(cluster)
        assert refused.wait(WAIT_SECONDS) == 1
        assert log.read_text().count("\n") == 1, log.read_text()
        assert f"scheduler {cluster.address}: want a certificate in Dask's configuration" in log.read_text()

        with ended(begun(cluster)) as campaign:
            run = under_way(campaign, cluster)
            campaign.send_signal(signal.SIGINT)
            assert campaign.wait(WAIT_SECONDS) == 130, log.read_text()
        assert not psutil.pid_exists(run.pid), "the run has ended before the campaign said so"
        assert not list((tmp_path / "first" / "w1").rglob("run.json")), "nothing of a run stays with its worker"
        assert not list(data.path.glob(".arriving-*"))

        with ended(begun(cluster)) as campaign:
            run = under_way(campaign, cluster)
            its_own = [run, *run.children(recursive=True)]
            qemus = [one for one in its_own if "qemu" in one.name()]
            os.kill(scheduler.pid, signal.SIGKILL)
            assert campaign.wait(WAIT_SECONDS) == 1, log.read_text()
        last = log.read_text().splitlines()[-1]
        assert last.startswith(f"migrascope: scheduler {cluster.address}: is lost ("), last
        assert last.endswith("what ended is safe, the same command goes on")
    assert not psutil.wait_procs([run, *qemus], WAIT_SECONDS)[1], "a run dies with its worker"

    with encrypted_cluster(tmp_path / "second", port) as (cluster, _), ended(begun(cluster)) as campaign:
        assert campaign.wait(WAIT_SECONDS) == 0, log.read_text()
    place = the_campaign(data)
    assert faults(place, data, 1) == []
    assert read_state(place).outcomes == {"completed": 1}
    first, second = [event.reason for event in read_events(place) if isinstance(event, Cut)]
    assert first == "cancelled by the user"
    assert f"migrascope: {second}" == last
