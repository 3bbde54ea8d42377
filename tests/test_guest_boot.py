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

from workload.console import GuestError, Latency, Parser, Phase, Ready, Record, Tick, Xor
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

    def phases(self) -> list[Phase]:
        return [record for record in self.records if isinstance(record, Phase)]

    def since(self, begin: Record) -> list[Record]:
        """What was said from a record on, up to the next phase."""
        rest = self.records[self.records.index(begin) + 1 :]
        return list(itertools.takewhile(lambda record: not isinstance(record, Phase), rest))

    def ticks(self) -> list[Tick]:
        return [record for record in self.records if isinstance(record, Tick)]


class Boot:
    """Boots guests and kills them in the end; `initrd` and `more` of QEMU's options may be another's."""

    def __init__(self, qemu_binary: Path, cache: Path, folder: Path) -> None:
        self.qemu_binary, self.cache, self.folder = qemu_binary, cache, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.initrd = build_initrd(cache).path
        self.more: list[str] = []

    def __call__(self, workload: Workload, vcpus: int = 1, extra: str = "") -> Guest:
        console = self.folder / "console.log"
        console.touch()
        command: list[str | Path] = [
            self.qemu_binary, "-M", "pc", "-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-m", "128", "-smp", str(vcpus),
            "-kernel", find_kernel(None, self.cache).path, "-initrd", self.initrd,
            "-append", guest_command_line(workload, vcpus, extra),
            "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console", *self.more,
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


PATTERNS = ("random", "hotset", "zipf", "once", "idle")
CONTENTS = ("write_percent=5", "change_percent=2", "zero_percent=80", "compressible_percent=75", "rate_limit_mib_s=30")


@pytest.mark.parametrize("settings", [[f"pattern={name}" for name in PATTERNS], CONTENTS], ids=["orders", "contents"])
def test_a_guest_goes_through_its_phases_on_every_vcpu_and_then_works_for_ever(boot: Boot, settings: list[str]) -> None:
    phases = "/".join(f"1:{setting}" for setting in settings)
    booted = boot(Workload(working_set_mib=16, granularity_mib=4, probe_hz=200, phases=phases), 2)
    booted.read_until(lambda: len(booted.phases()) == len(settings) and len(booted.since(booted.phases()[-1])) > 100)
    assert [phase.number for phase in booted.phases()] == list(range(1, len(settings) + 1))
    ready = booted.records[0]
    assert isinstance(ready, Ready)
    for phase in booted.phases():
        assert 0 <= (phase.guest_ns - ready.guest_ns) / 1e9 - phase.number < 0.5
    begins: list[Record] = [ready, *booted.phases()]
    for begin, setting in zip(begins, settings, strict=False):
        lines = [record for record in booted.since(begin) if isinstance(record, Xor)]
        assert {xor.vcpu for xor in lines} == {0, 1}, setting
        if setting in ("pattern=idle", "pattern=once"):
            assert sum(xor.bytes for xor in lines) <= 24 * MIB, "one pass, and what was under way"
            assert lines[-1].bytes == 0
        elif setting == "rate_limit_mib_s=30":
            assert 30 * MIB < sum(xor.bytes for xor in lines) < 90 * MIB
    assert_probed(booted, hz=200)
    assert (booted.parser.garbage_lines, booted.parser.lost_lines) == (0, 0)


def assert_probed(booted: Guest, hz: int) -> None:
    """The probe's lines follow each other, count its accesses, and none took longer than its line says."""
    lines = [record for record in booted.records if isinstance(record, Latency)]
    assert [line.sequence for line in lines] == list(range(len(lines)))
    accesses = sum(sum(line.counts.values()) for line in lines)
    seconds = sum(line.taken_ns for line in lines) / 1e9
    assert 0.3 * hz < accesses / seconds <= hz * 1.05
    for line in lines:
        assert line.most_ns <= line.sum_ns <= line.taken_ns
        assert max(line.counts) == 0 or 1000 << max(line.counts) - 1 < line.most_ns <= 1000 << max(line.counts)


@pytest.mark.parametrize("size", ["4k", "2m", "2m-hugetlb"])
def test_the_working_set_lies_in_pages_of_the_size_asked_for(boot: Boot, size: str) -> None:
    booted = boot(Workload(working_set_mib=16, granularity_mib=4, guest_page_size=size))
    booted.read_until(lambda: len(booted.xors(0)) > 10)
    assert isinstance(booted.records[0], Ready)


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        (
            Workload(working_set_mib=1024, guest_page_size="1g-hugetlb"),
            "migrascope.guest_page_size=1g-hugetlb: the guest's kernel or CPU has no such pages",
        ),
        (
            Workload(working_set_mib=120, guest_page_size="2m-hugetlb"),
            "migrascope.working_set_mib=120: the guest has ",
        ),
    ],
)
def test_pages_that_the_guest_has_not_are_told_and_it_powers_off(boot: Boot, workload: Workload, text: str) -> None:
    booted = boot(workload)
    booted.read_to_its_end()
    [error] = booted.records
    assert isinstance(error, GuestError)
    assert error.text.startswith(text)


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
