"""Campaigns on a real cluster: a dask scheduler and two workers on loopback, real runs, a worker killed in mid-run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.campaign_kills import PLAN, faults
from driver.campaign_events import Begun, Cut, read_events
from driver.campaign_state import read_state
from driver.datadir import CampaignDir, DataDir
from driver.lock import VARIABLE
from driver.record import read_record
from driver.scheduler import check_address
from exporter import history
from exporter.start import LINGER_VARIABLE
from migrascope.main import main
from tests.servers import unused_port
from workload.errors import BadValueError

WAIT_SECONDS = 90.0
RUNS = 4


@dataclass
class Cluster:
    """A scheduler's address, and its workers' processes by name."""

    address: str
    workers: dict[str, subprocess.Popen[bytes]]
    folder: Path


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dask(log: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words], stdout=output, stderr=output, env=os.environ | environment
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two workers that take turns with nobody: each has a driver lock of its own, as on a host of its own."""
    address = f"tcp://127.0.0.1:{unused_port()}"
    with ExitStack() as stack:
        port = address.rpartition(":")[2]
        words = ("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        stack.enter_context(ended(dask(tmp_path / "scheduler.log", *words)))
        workers = {
            name: stack.enter_context(
                ended(
                    dask(
                        tmp_path / f"{name}.log",
                        *("worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"),
                        *("--name", name, "--resources", f"{name}=1", "--local-directory", str(tmp_path / name)),
                        **{VARIABLE: str(tmp_path / f"{name}.lock"), LINGER_VARIABLE: "1"},
                    )
                )
            )
            for name in ("w1", "w2")
        }
        yield Cluster(address=address, workers=workers, folder=tmp_path)


def start(plan: Path, data: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "migrascope.main", "campaign", "run", str(plan), "--data-dir", str(data), "--json"]
    with log.open("ab") as output:
        return subprocess.Popen([*command, *words], stdout=output, stderr=output)


def until(true: Callable[[], object], what: str, *logs: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "\n".join([what, *(log.read_text() for log in logs)])
        time.sleep(0.05)


def runs_of(worker: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """The runs that a worker makes just now, by their ids, each once its QEMUs are there."""
    found = {}
    try:
        for child in psutil.Process(worker.pid).children():
            names = [one.name() for one in child.children(recursive=True)]
            ids = [word.removeprefix("--run-id=") for word in child.cmdline() if word.startswith("--run-id=")]
            if ids and sum("qemu" in name for name in names) >= 2:
                found[ids[0]] = child
    except psutil.NoSuchProcess:
        pass
    return found


def the_campaign(data: DataDir) -> CampaignDir:
    (place,) = data.all_campaigns()
    return place


@pytest.mark.qemu
@pytest.mark.timeout(300)
def test_a_worker_killed_in_mid_run_loses_its_run_which_the_other_makes_again(cluster: Cluster, tmp_path: Path) -> None:
    plan, log, data = tmp_path / "kills.toml", tmp_path / "log", DataDir.open(tmp_path / "data")
    plan.write_text(PLAN.format(repeats=RUNS // 2))
    with ended(start(plan, data.path, log, "--scheduler", cluster.address)) as campaign:
        until(
            lambda: campaign.poll() is not None or all(runs_of(worker) for worker in cluster.workers.values()),
            "both workers are at work at once", log,
        )  # fmt: skip
        assert campaign.poll() is None, log.read_text()
        ((lost, process),) = runs_of(cluster.workers["w1"]).items()
        its_own = [process, *process.children(recursive=True)]
        qemus = [one for one in its_own if "qemu" in one.name()]
        cluster.workers["w1"].kill()
        assert not psutil.wait_procs([process, *qemus], WAIT_SECONDS)[1], "a run dies with its worker"
        assert campaign.wait(2 * WAIT_SECONDS) == 0, log.read_text()
    place = the_campaign(data)
    assert faults(place, data, RUNS) == []
    assert read_state(place).outcomes == {"completed": RUNS}
    events = read_events(place)
    (cut,) = [event for event in events if isinstance(event, Cut)]
    assert cut.run == lost
    assert cut.reason.endswith("was lost")
    assert sum(isinstance(event, Begun) for event in events) == RUNS + 1
    results = {result.run for result in read_state(place).results()}
    assert {row.run for row in history.runs(data)} == results, "every run's directory has come home"
    for run in results:
        assert list(data.run(run).samples.glob("*.parquet")), "with its samples"
        assert read_record(data.run(run)).outcome == "completed"
    assert not list(data.path.glob(".arriving-*"))
    left = list((tmp_path / "w2").rglob("run.json"))
    assert left == [], "nothing of a run stays with its worker"


@pytest.mark.qemu
@pytest.mark.timeout(300)
def test_jobs_run_side_by_side_on_this_host_and_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    monkeypatch.setenv(LINGER_VARIABLE, "1")
    plan, log, data = tmp_path / "kills.toml", tmp_path / "log", DataDir.open(tmp_path / "data")
    plan.write_text(PLAN.format(repeats=1))
    with ended(start(plan, data.path, log, "--jobs", "2")) as campaign:
        assert campaign.wait(2 * WAIT_SECONDS) == 0, log.read_text()
    assert faults(the_campaign(data), data, 2) == []
    first, second = (read_record(run) for run in data.all_runs())
    assert second.clock.wall_ns < max(phase.end_ns or 0 for phase in first.phases), (
        "the one began before the other ended"
    )
    assert read_state(the_campaign(data)).slots == 2


@pytest.mark.server
def test_what_no_worker_can_run_is_parked_and_a_label_that_none_has_is_told(cluster: Cluster, tmp_path: Path) -> None:
    plan, data = tmp_path / "plan.toml", tmp_path / "data"
    plan.write_text('[binaries]\nqemu = "qemu-nope"\n')
    log = tmp_path / "log"
    with ended(start(plan, data, log, "--scheduler", cluster.address)) as campaign:
        assert campaign.wait(WAIT_SECONDS) == 6, log.read_text()
    told = json.loads(log.read_text()[log.read_text().index("{") :])
    assert "qemu-nope is neither on the path" in told["cells"][0]["parked"]
    with ended(start(plan, data, log, "--scheduler", cluster.address, "--on", "pair-moon")) as campaign:
        assert campaign.wait(WAIT_SECONDS) == 6
    assert "has no label pair-moon (its labels: w" in log.read_text(), log.read_text()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786", "tls://far.example:8786"]
)
def test_loopback_and_encrypted_schedulers_are_taken(address: str) -> None:
    assert check_address(address, unencrypted=False).endswith(address)


def test_a_scheduler_off_loopback_must_be_encrypted_or_meant() -> None:
    with pytest.raises(BadValueError, match=r"^scheduler tcp://10\.0\.0\.5:8786: is not encrypted"):
        check_address("tcp://10.0.0.5:8786", unencrypted=False)
    assert check_address("tcp://10.0.0.5:8786", unencrypted=True) == "tcp://10.0.0.5:8786"


@pytest.mark.parametrize(
    "address", ["", "far.example", "http://far.example:80", "tcp://far.example:many", "inproc://1"]
)
def test_what_is_no_schedulers_address_is_refused(address: str) -> None:
    with pytest.raises(BadValueError, match="want tcp://HOST:PORT or tls://HOST:PORT"):
        check_address(address, unencrypted=True)


def one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: str) -> tuple[int, str]:
    plan = tmp_path / "plan.toml"
    plan.write_text("")
    status = main(["campaign", "run", str(plan), "--data-dir", str(tmp_path / "data"), *words])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return status, told


def test_without_distributed_one_line_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # what an import finds where it is not installed
    status, told = one_line(capsys, tmp_path, "--scheduler", "127.0.0.1:8786")
    assert status == 6
    assert "the package distributed is not installed; pip install 'migrascope[campaign]'" in told


def test_options_that_do_not_go_together_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line(capsys, tmp_path, "--on", "kvm")[1].endswith("want --scheduler too\n")
    assert one_line(capsys, tmp_path, "--jobs", "9")[1] == "migrascope: jobs=9: want 1 to 8 runs at once\n"
    assert one_line(capsys, tmp_path, "--jobs", "0")[0] == 2
