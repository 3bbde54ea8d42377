"""The guest in a real QEMU: what it prints, that its ticks keep time, and that it never hangs on bad settings."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from workload.console import GuestError, Parser, Ready, Record, Tick, Xor
from workload.image import build_initrd, guest_command_line
from workload.kernel import find_kernel
from workload.settings import Workload

BOOT_SECONDS = 60.0
MIB = 1 << 20

pytestmark = pytest.mark.qemu


@dataclass
class Guest:
    """A booted guest and what its console has said so far."""

    process: subprocess.Popen[bytes]
    console: Path
    parser: Parser = field(default_factory=Parser)
    records: list[Record] = field(default_factory=list)

    def read_until(self, enough: Callable[[], bool]) -> None:
        """Read the console until `enough()`."""
        deadline = time.monotonic() + BOOT_SECONDS
        with self.console.open("rb") as file:
            file.seek(0)
            self.parser, self.records[:] = Parser(), []
            while True:
                self.records += self.parser.feed(file.read())
                if enough():
                    return
                assert time.monotonic() < deadline, f"still not enough: {self.records[-3:]}"
                time.sleep(0.02)

    def read_to_its_end(self) -> None:
        """Wait until QEMU has ended by itself, then read what there is."""
        assert self.process.wait(timeout=BOOT_SECONDS) == 0
        self.read_until(lambda: True)

    def xors(self, vcpu: int) -> list[Xor]:
        return [record for record in self.records if isinstance(record, Xor) and record.vcpu == vcpu]

    def ticks(self) -> list[Tick]:
        return [record for record in self.records if isinstance(record, Tick)]


class Boot:
    """Boots guests and kills them in the end."""

    def __init__(self, qemu_binary: Path, cache: Path, folder: Path) -> None:
        self.qemu_binary, self.cache, self.folder = qemu_binary, cache, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, workload: Workload, vcpus: int = 1, extra: str = "") -> Guest:
        console = self.folder / "console.log"
        console.touch()
        command: list[str | Path] = [
            self.qemu_binary, "-M", "pc", "-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-m", "128", "-smp", str(vcpus),
            "-kernel", find_kernel(None, self.cache).path, "-initrd", build_initrd(self.cache).path,
            "-append", guest_command_line(workload, vcpus, extra),
            "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        ]  # fmt: skip
        self.processes.append(subprocess.Popen(command))
        return Guest(process=self.processes[-1], console=console)


@pytest.fixture
def boot(qemu_binary: Path, cache: Path, tmp_path: Path) -> Iterator[Boot]:
    booting = Boot(qemu_binary, cache, tmp_path)
    yield booting
    for process in booting.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest_says_ready_then_xors_on_every_vcpu_and_ticks(boot: Boot, vcpus: int) -> None:
    booted = boot(Workload(working_set_mib=15, granularity_mib=7), vcpus)
    booted.read_until(lambda: len(booted.ticks()) > 100 and all(len(booted.xors(n)) > 5 for n in range(vcpus)))
    ready = booted.records[0]
    assert isinstance(ready, Ready)
    assert (ready.line, ready.vcpus, ready.working_set_bytes) == (0, vcpus, 15 * MIB)
    assert (ready.granularity_bytes, ready.tick_ms, ready.rate_limit_bytes) == (7 * MIB, 10, 0)
    assert set(ready.loops) == {"lcg4", "mwc16"}
    assert ready.loops[ready.loop] == max(ready.loops.values())
    for vcpu in range(vcpus):
        xors = booted.xors(vcpu)
        assert [xor.sequence for xor in xors] == list(range(len(xors)))
        assert {xor.bytes for xor in xors} == {7 * MIB}
        spans = [(b.guest_ns - a.guest_ns) / b.taken_ns for a, b in itertools.pairwise(xors)]
        assert 0.8 < statistics.median(spans) < 1.25
    assert [record.line for record in booted.records] == list(range(len(booted.records)))
    times = [record.guest_ns for record in booted.records]
    assert times == sorted(times)
    assert (booted.parser.garbage_lines, booted.parser.lost_lines, booted.parser.panicked) == (0, 0, None)


def test_ticks_come_at_their_period_although_the_vcpu_is_busy(boot: Boot) -> None:
    booted = boot(Workload(tick_ms=10))
    booted.read_until(lambda: len(booted.ticks()) >= 200)
    ticks = booted.ticks()
    gaps_ms = [(b.guest_ns - a.guest_ns) / 1e6 for a, b in itertools.pairwise(ticks)]
    assert [tick.sequence for tick in ticks] == list(range(len(ticks)))
    assert 9.5 < statistics.median(gaps_ms) < 10.5
    mean_ms = (ticks[-1].guest_ns - ticks[0].guest_ns) / 1e6 / (len(ticks) - 1)
    assert 9.9 < mean_ms < 20  # an absolute schedule: nothing creeps; a busy host may cost whole ticks


def test_a_rate_limit_holds_on_each_vcpu(boot: Boot) -> None:
    workload = Workload(working_set_mib=4, granularity_mib=1, rate_limit_mib_s=20, tick_ms=0)
    booted = boot(workload, 2)
    booted.read_until(lambda: all(len(booted.xors(n)) >= 30 for n in (0, 1)))
    assert booted.ticks() == []
    for vcpu in (0, 1):
        xors = booted.xors(vcpu)
        seconds = (xors[-1].guest_ns - xors[0].guest_ns) / 1e9
        rate_mib_s = sum(xor.bytes for xor in xors[1:]) / MIB / seconds
        assert 10 < rate_mib_s < 22


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ("migrascope.tick_ms=abc", "migrascope.tick_ms=abc: want 0 (off) or 1 to 10000"),
        ("migrascope.tuck_ms=1", "migrascope.tuck_ms=1: no such setting"),
        ("migrascope.vcpus=2", "migrascope.vcpus=2: the guest has 1 online"),
    ],
)
def test_a_bad_setting_is_told_and_the_guest_powers_off(boot: Boot, extra: str, text: str) -> None:
    booted = boot(Workload(), extra=extra)
    booted.read_to_its_end()
    assert len(booted.records) == 1
    error = booted.records[0]
    assert isinstance(error, GuestError)
    assert error.text == text
    assert booted.parser.garbage_lines == 0


def test_a_working_set_larger_than_memory_is_told_and_the_guest_powers_off(boot: Boot) -> None:
    booted = boot(Workload(working_set_mib=120))
    booted.read_to_its_end()
    error = booted.records[-1]
    assert isinstance(error, GuestError)
    assert error.text.startswith("migrascope.working_set_mib=120: the guest has ")


def test_a_guest_that_panics_is_seen_and_its_qemu_ends(boot: Boot) -> None:
    booted = boot(Workload(), extra="rdinit=/nothing init=/nothing")
    booted.read_to_its_end()
    assert booted.records == []
    assert booted.parser.panicked is not None
    assert booted.parser.panicked.startswith("Kernel panic - not syncing: ")
