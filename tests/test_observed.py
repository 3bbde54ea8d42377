"""VMs that something else runs: real QEMUs that the test itself starts and migrates, and monitors that are none."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from driver.datadir import DataDir
from driver.record import read_record
from driver.scenario import Scenario
from exporter import history
from exporter.summary import read_summary
from tests.live_pair import LivePair
from tests.waiting import wait_until


@dataclass
class Exporter:
    """`migrascope exporter` as a person starts it, on a free port."""

    data: DataDir
    words: list[str]
    log: Path
    port: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "migrascope.main",
            "exporter",
            "--data-dir",
            str(self.data.path),
            "--port",
            "0",
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *self.words], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/metrics", self.process.stdout.readline())
        assert found, self.log.read_text()
        self.port = int(found[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log.read_text()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def shows(self, *lines: str) -> None:
        """Wait until /metrics has these lines (regular expressions)."""
        wait_until(lambda: all(re.search(f"^{line}", self.scrape(), re.MULTILINE) for line in lines), 30)

    def told(self, words: str) -> None:
        """Wait until the log holds these words."""
        wait_until(lambda: words in self.log.read_text(), 30)


def kinds_of(data: DataDir, run: str) -> set[tuple[str, str]]:
    table = history.load(data, data.run(run), "qemu_cpu")
    return set(zip(table.column("role").to_pylist(), table.column("kind").to_pylist(), strict=True))


@pytest.mark.qemu
def test_each_migration_of_a_vm_that_others_run_becomes_a_run(
    tmp_path: Path, qemu_binary: Path, cache: Path, sockets: Path
) -> None:
    """One that does not converge and is cancelled by its owner, then one that post-copy carries over."""
    data, lab = DataDir.open(tmp_path / "history"), DataDir.open(tmp_path / "lab")
    scenario = Scenario(bandwidth_mib_s=32, downtime_limit_ms=10)
    with LivePair(lab, qemu_binary, cache, sockets, scenario) as pair:
        file = tmp_path / "vms.yaml"
        file.write_text(f"- name: guest1\n  qmp: {sockets}/source-watch\n  console: {pair.dir.console('source')}\n")
        with Exporter(data, ["--attach-file", str(file)], tmp_path / "log") as exporter:
            # named only now: the file is read again
            console = pair.dir.console("destination")
            file.write_text(
                f"{file.read_text()}- {{name: guest1, qmp: {sockets}/destination-watch, console: {console}}}\n"
            )
            pair.boot()
            exporter.shows(
                'migrascope_qemu_thread_cpu_seconds_total{.*kind="vcpu".*role="source".*vm="guest1"} [1-9]',
                'migrascope_source_up{role="destination",source="monitor",vm="guest1"} 1.0',
                'migrascope_run_info{.*run="".*vm="guest1"}',
            )
            time.sleep(0.5)
            pair.migrate()
            exporter.shows('migrascope_migration_status{.*migrascope_migration_status="active".*vm="guest1"} 1.0',
                           'migrascope_verdict_not_converging{.*vm="guest1"} 1.0')  # fmt: skip
            assert [row.outcome for row in history.runs(data)] == ["running"]
            pair.control["source"].execute("migrate_cancel")
            wait_until(lambda: [row.outcome for row in history.runs(data)] == ["cancelled"])
        assert sum(not run.lock.exists() for run in data.all_runs()) == 0
        row = history.runs(data)[0]
        assert (row.kind, row.scenario, row.strategy) == ("observed", "observed.guest1", None)
        assert row.reason == "by whoever runs the VM"
        record = read_record(data.run(row.run))
        assert record.source_binary is not None
        assert record.source_binary.version.startswith("7.2")
        assert [phase.name for phase in record.phases] == ["settle", "migrate"]
        assert record.accelerator == "tcg"
        summary = read_summary(data.run(row.run))
        assert summary.iterations is not None
        assert summary.iterations > 5
        assert summary.settle_seconds_per_gib_mean is not None
        assert {("source", "vcpu"), ("source", "migration"), ("source", "process")} <= kinds_of(data, row.run)
        verdicts = history.load(data, data.run(row.run), "verdict")
        assert 1.0 in verdicts.column("not_converging").to_pylist()


@pytest.mark.qemu
def test_a_pair_of_one_name_gives_the_blackout_and_one_end_alone_gives_its_part(
    tmp_path: Path, qemu_10_binary: Path, cache: Path, sockets: Path
) -> None:
    data, lab = DataDir.open(tmp_path / "history"), DataDir.open(tmp_path / "lab")
    with LivePair(lab, qemu_10_binary, cache, sockets, Scenario(bandwidth_mib_s=400, downtime_limit_ms=1000)) as pair:
        words = ["--attach", f"name=pair,qmp={sockets}/source-watch,console={pair.dir.console('source')}",
                 "--attach", f"name=pair,qmp={sockets}/destination-watch,console={pair.dir.console('destination')}",
                 "--attach", f"name=alone,qmp={sockets}/source-poller"]  # fmt: skip
        with Exporter(data, words, tmp_path / "log") as exporter:
            pair.boot()
            exporter.shows('migrascope_source_up{role="destination",source="monitor",vm="pair"} 1.0',
                           'migrascope_source_up{role="source",source="monitor",vm="alone"} 1.0')  # fmt: skip
            pair.migrate()
            wait_until(lambda: sorted(row.outcome for row in history.runs(data)) == ["completed", "completed"])
            # the QEMU that has the guest now is the next migration's source
            exporter.shows('migrascope_source_up{role="source",source="monitor",vm="pair"} 1.0')
            pair.processes["source"].kill()
            pair.processes["source"].wait()
            exporter.told("vm alone: ")
        alone, both = sorted(history.runs(data), key=lambda row: row.scenario or "")
        assert (alone.scenario, both.scenario) == ("observed.alone", "observed.pair")
        record = read_record(data.run(both.run))
        assert record.destination_binary is not None
        assert record.destination_binary.version.startswith("10.0")
        phases = [phase.name for phase in record.phases]
        assert phases == ["settle", "migrate", "switchover", "recover"]
        blackout, told = both.figures["blackout_seconds"], both.figures["stop_resume_seconds"]
        assert blackout is not None
        assert told is not None
        assert 0 < blackout < 2
        assert abs(blackout - told) < 0.1
        assert alone.figures["blackout_seconds"] is None
        assert alone.figures["total_seconds"] == pytest.approx(both.figures["total_seconds"])
        assert [phase.name for phase in read_record(data.run(alone.run)).phases][-1] == "end"
