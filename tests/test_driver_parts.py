"""The driver's smaller parts: command line, fit, pace, race, ledger, locks, runtime directories, facts."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import psutil
import pytest

from driver.clock import Clock
from driver.datadir import RunDir, append_line
from driver.facts import binary_facts, git_revision, host_facts
from driver.guest import Line, pace, steady_pace
from driver.hardware import Hardware
from driver.kit import check_fits, slow_path_kib
from driver.ledger import Ending, Ledger
from driver.lock import VARIABLE, driver_lock, run_lock, try_lock
from driver.marks import read_marks
from driver.qemu import Launch, command_line
from driver.race import race
from driver.record import RunRecord, read_record
from driver.request import new_run_id
from driver.runtime import OWNER, run_runtime_dir
from driver.scenario import Scenario
from exporter.abandoned import close_abandoned
from workload.errors import BadValueError, BrokenError, MigrascopeError, UnsupportedError
from workload.settings import Workload


def a_launch(**changes: object) -> Launch:
    facts: dict[str, object] = {
        "role": "source", "binary": "/usr/bin/qemu", "run": "r1", "hardware": Hardware(vcpus=2), "machine": "pc",
        "accelerator": "tcg", "memory_kib": 262144, "kernel": Path("/k"), "initrd": Path("/i"), "append": "quiet x=1",
        "console": Path("/data, with a comma/console"), "log": Path("/log"), "watch_socket": Path("/run/s.sock"),
        "incoming": False, "paused": True,
    }  # fmt: skip
    return Launch(**(facts | changes))  # type: ignore[arg-type]


def a_ledger(path: Path) -> Ledger:
    path.mkdir(exist_ok=True)
    record = RunRecord(
        run=path.name, clock=Clock.now(), scenario=Scenario(), hardware=Hardware(), workload=Workload(),
        host=host_facts(),
    )  # fmt: skip
    return Ledger(RunDir(path=path), record)


def test_the_command_line_names_threads_doubles_commas_and_hands_over_the_monitor() -> None:
    line = command_line(a_launch(), "fd=7")
    text = " ".join(line)
    assert "guest=migrascope-r1-source,debug-threads=on" in line
    assert "tcg,thread=multi" in line
    assert "file,id=console,path=/data,, with a comma/console" in line
    assert "socket,id=driver,fd=7" in line
    assert "socket,id=exporter,path=/run/s.sock,server=on,wait=off" in line
    assert "-m 262144K -smp 2" in text
    assert line[-1] == "-S"
    assert "-incoming" not in line


def test_the_command_line_follows_accelerator_and_role() -> None:
    ring = a_launch(accelerator="kvm", hardware=Hardware(dirty_ring_size=4096), incoming=True, paused=False)
    line = command_line(ring, "fd=3")
    assert "kvm,dirty-ring-size=4096" in line
    assert line[-2:] == ["-incoming", "defer"]
    assert "host" in line
    assert "-S" not in line
    assert "-cpu" not in command_line(a_launch(), "fd=3")
    assert "qemu64,+pdpe1gb" in command_line(a_launch(gib_pages=True), "fd=3")


def test_tcg_guests_get_more_ram_where_qemu_would_lose_their_pages() -> None:
    assert slow_path_kib("tcg", ("7.2.22 (Debian 1:7.2)", "10.0.2 (Debian)")) == 8
    assert slow_path_kib("tcg", ("10.0.2 (Debian)", "9.0.0")) == 0
    assert slow_path_kib("kvm", ("7.2.22", "7.2.22")) == 0


def test_a_guest_that_does_not_fit_is_refused_with_figures() -> None:
    check_fits(Hardware(memory_mib=128), Workload(working_set_mib=32))
    with pytest.raises(BadValueError, match=r"hardware.memory_mib=128: want at least the working set's 100 MiB"):
        check_fits(Hardware(memory_mib=128), Workload(working_set_mib=100))
    half_mib = (psutil.virtual_memory().total >> 20) // 2 + 1
    with pytest.raises(BadValueError, match=r"2 QEMUs of that size want \d+ MiB, this host has \d+ MiB free"):
        check_fits(Hardware(memory_mib=half_mib), Workload(working_set_mib=32))


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = {new_run_id() for _ in range(20)}
    assert len(ids) == 20
    assert all(len(each) == 20 and each[8] == each[15] == "-" for each in ids)


def lines_at(rates: list[float], vcpus: int = 1) -> list[Line]:
    """One line a vCPU every 50 ms; `rates` (bytes/s) change every 200 ms."""
    return [
        Line(role="source", stamp_ns=(4 * number + part + 1) * 50_000_000 - 1, vcpu=vcpu, bytes=int(rate / 20),
             taken_ns=50_000_000)
        for number, rate in enumerate(rates) for part in range(4) for vcpu in range(vcpus)
    ]  # fmt: skip


def test_a_pace_is_steady_once_four_windows_agree() -> None:
    def at(rates: list[float], seconds: float) -> float | None:
        return steady_pace(lines_at(rates), 1, 0, int(seconds * 1e9))

    assert at([100e6] * 4, 0.79) is None  # too early to have four windows
    assert at([100e6] * 4, 0.8) == pytest.approx(100e6, rel=0.01)
    assert at([50e6, 100e6, 100e6, 100e6], 0.8) is None
    assert at([50e6, 100e6, 100e6, 100e6, 104e6], 1.0) == pytest.approx(101e6, rel=0.01)


def test_a_pace_is_of_all_vcpus_or_unknown() -> None:
    assert pace(lines_at([100e6] * 4, vcpus=2), 2) == pytest.approx(200e6)
    assert pace(lines_at([100e6] * 4, vcpus=1), 2) is None


async def test_a_race_ends_with_its_body_or_with_the_first_watcher_that_raises() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def body() -> int:
        await asyncio.sleep(0.01)
        return 7

    async def content() -> None:
        return

    async def alarm() -> None:
        raise BrokenError("it broke")

    async def never() -> int:
        await forever()
        return 0

    assert await race(body(), forever(), content()) == 7
    with pytest.raises(BrokenError, match="it broke"):
        await race(never(), forever(), alarm())
    assert len(ended) == 3


def test_a_ledger_writes_phases_actions_and_only_the_first_ending(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "r1")
    ledger.phase("start")
    ledger.phase("migrate")
    ledger.action("post-copy", {"iteration": 3})
    ledger.end(Ending(outcome="completed"))
    ledger.end(Ending(outcome="broken"))
    record = read_record(ledger.run)
    assert record.outcome == "completed"
    assert [phase.name for phase in record.phases] == ["start", "migrate"]
    assert record.phases[0].end_ns == record.phases[1].start_ns
    assert record.phases[1].end_ns is not None
    assert [mark.name for mark in read_marks(ledger.run)] == ["start", "migrate", "post-copy", "completed"]


async def test_a_ledger_keeps_what_a_full_disk_refuses_and_writes_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = a_ledger(tmp_path / "r1")
    ledger.phase("start")
    (tmp_path / "r1").rename(tmp_path / "away")
    ledger.phase("migrate")
    ledger.action("limit", {})
    monkeypatch.setattr("driver.ledger.DISK_FULL_SECONDS", 0.1)
    monkeypatch.setattr("driver.ledger.RETRY_SECONDS", 0.02)
    with pytest.raises(BrokenError, match=r"could not be written for 0\.1 s"):
        await asyncio.wait_for(ledger.watch(), 5)
    (tmp_path / "away").rename(tmp_path / "r1")
    await ledger.flush()
    assert [mark.name for mark in read_marks(ledger.run)] == ["start", "migrate", "limit"]
    assert [phase.name for phase in read_record(ledger.run).phases] == ["start", "migrate"]


def test_a_second_driver_is_refused_with_the_lock_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    elsewhere = copy_context()
    refused = pytest.raises(MigrascopeError, match=r"another migrascope is running .*driver\.lock")
    with driver_lock(), refused:
        elsewhere.run(driver_lock().__enter__)
    with driver_lock():
        pass


def test_who_holds_the_drivers_lock_takes_it_again_for_each_run_and_lets_go_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))

    def free() -> bool:
        with try_lock(tmp_path / "driver.lock") as taken:
            return taken

    async def a_run() -> None:
        with driver_lock():
            assert not free()

    with driver_lock():
        asyncio.run(a_run())
        assert not free()
    assert free()


def test_an_abandoned_runs_saved_guest_is_removed(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "r1")
    ledger.phase("migrate")
    ledger.run.lock.touch()
    for name in ("state", "state.part"):
        (ledger.run.path / name).write_bytes(b"QEVM")
    assert close_abandoned(ledger.run).outcome == "abandoned"
    assert not list(ledger.run.path.glob("state*"))


def test_only_who_obtains_a_runs_lock_closes_it_as_abandoned(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path / "r1")
    ledger.phase("start")
    with run_lock(ledger.run):
        assert close_abandoned(ledger.run).outcome is None
    assert close_abandoned(ledger.run).outcome == "abandoned"
    assert read_record(ledger.run).outcome == "abandoned"
    assert close_abandoned(ledger.run).outcome == "abandoned"


@pytest.fixture
def runtime_parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory that stands for the user's runtime directory."""
    parent = Path(f"/tmp/mt-{os.getpid()}")
    parent.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(parent))
    yield parent
    for each in (*parent.glob("*/*"), *parent.glob("*"), parent):
        each.unlink() if each.is_file() else each.rmdir()


def test_a_dead_drivers_runtime_directory_is_swept_and_no_other(runtime_parent: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    for name, owner in (("migrascope-dead", f"{dead.stdout.strip()} 1.0"), ("migrascope-none", None)):
        (runtime_parent / name).mkdir()
        if owner:
            (runtime_parent / name / OWNER).write_text(owner)
    with run_runtime_dir() as first, run_runtime_dir() as second:
        assert sorted(p.name for p in runtime_parent.iterdir()) == sorted([first.name, second.name, "migrascope-none"])
    assert [p.name for p in runtime_parent.iterdir()] == ["migrascope-none"]


async def test_a_binary_is_asked_whether_it_is_qemu(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedError, match=r"no-such-qemu is neither on the path nor in the cache; apt-get install"
    ):
        await binary_facts("no-such-qemu")
    with pytest.raises(BadValueError, match=r"is not QEMU: to --version it says"):
        await binary_facts("/bin/ls")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00\x01")
    garbage.chmod(0o755)
    with pytest.raises(BadValueError, match="cannot be run"):
        await binary_facts(str(garbage))


async def test_a_binary_that_never_answers_is_not_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.facts.VERSION_SECONDS", 0.3)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(BadValueError, match="did not end within"):
        await binary_facts(str(slow))


def test_the_source_revision_is_a_commit_or_unknown() -> None:
    revision = git_revision()
    assert revision is None or (len(revision) == 40 and set(revision) <= set("0123456789abcdef"))


def test_a_line_that_a_full_disk_cuts_leaves_no_part_behind(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    append_line(path, {"a": 1})
    code = (
        "import resource, signal, sys; from pathlib import Path; from driver.datadir import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (12, 12))\n"
        "try: append_line(Path(sys.argv[1]), {'b': 'long enough to be cut'})\n"
        "except OSError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert path.read_text() == '{"a":1}\n'
    assert not list(itertools.islice(path.parent.glob(".*"), 1))
