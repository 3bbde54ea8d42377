"""A data directory on a disk that fills up for real: a small tmpfs that the test mounts (as root) and fills."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from driver.datadir import DataDir, RunDir
from driver.lock import VARIABLE
from driver.marks import read_marks
from exporter import history
from exporter.start import LINGER_VARIABLE
from migrascope.main import main
from tests.small_disk import mounted
from tests.waiting import wait_until

GUEST = "--accel tcg --vcpus 1 --memory-mib 128 --working-set-mib 16 --granularity-mib 4 --warm-start"
NEVER = "--bandwidth-mib-s 16 --downtime-limit-ms 50 --max-time-seconds 60 --max-iterations 1000"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB of our own."""
    with mounted(tmp_path / "disk", 16) as refused:
        if refused:
            pytest.skip(refused)
        yield tmp_path / "disk"


def fill(place: Path) -> None:
    """Leave not one block free."""
    with contextlib.suppress(OSError), (place / "filler").open("ab", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass


def of_run(run: RunDir) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if run.run in " ".join(p.info["cmdline"] or ())]


@pytest.mark.qemu
def test_a_disk_that_fills_up_in_mid_migration_breaks_the_run_in_one_line_and_leaves_nothing_running(
    small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    monkeypatch.setattr("driver.ledger.DISK_FULL_SECONDS", 2.0)
    data = DataDir.open(small_disk)

    def fill_once_it_migrates() -> None:
        wait_until(lambda: data.all_runs() and "migrate" in [mark.name for mark in read_marks(data.all_runs()[0])])
        fill(small_disk)

    filling = threading.Thread(target=fill_once_it_migrates, daemon=True)
    filling.start()
    status = main(["run", *GUEST.split(), *NEVER.split(), "--data-dir", str(small_disk)])
    filling.join()

    (run,) = data.all_runs()
    said = capfd.readouterr().err
    complaints = [line for line in said.splitlines() if line.startswith("migrascope: ")]
    assert status == 7
    assert complaints == [
        f"migrascope: run {run.run}: its record could not be written to {run.path} (No space left on device)"
    ], said
    assert "Traceback" not in said
    assert not of_run(run)
    (small_disk / "filler").unlink()
    wait_until(lambda: not (small_disk / "exporter.json").exists())
    assert [row.outcome for row in history.runs(data)] == ["abandoned"]


def test_a_data_directory_on_a_full_disk_is_one_line(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(small_disk)
    assert main(["runs", "--data-dir", str(small_disk / "data")]) == 7
    assert capsys.readouterr().err == (
        f"migrascope: data directory {small_disk / 'data'}: {os.strerror(28)}; choose another with --data-dir\n"
    )
